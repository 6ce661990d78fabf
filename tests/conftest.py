"""What all tests share."""

import hypothesis

pytest_plugins = ["pytester"]

hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

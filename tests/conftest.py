"""What all tests share."""

import attrs
import hypothesis
import pytest
import trustme

from models.tls import Certificate

pytest_plugins = ["pytester"]

hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@attrs.frozen
class Paper:
    """What a server shows, and what a client trusts."""

    certificate: Certificate
    authority: str
    in_one: str


@pytest.fixture(scope="session")
def paper(tmp_path_factory):
    """A certificate for this machine, with RSA keys (see `models.tls`), and the authority that signed it."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA(key_type=trustme.KeyType.RSA)
    issued = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.RSA)
    chain, key, ca, in_one = (str(folder / name) for name in ("chain.pem", "key.pem", "ca.pem", "in_one.pem"))
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(chain, append=number > 0)
    issued.private_key_pem.write_to_path(key)
    issued.private_key_and_cert_chain_pem.write_to_path(in_one)
    authority.cert_pem.write_to_path(ca)
    return Paper(Certificate(chain, key), ca, in_one)

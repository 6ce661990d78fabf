"""What people see of a run, a report, a search: stories, diagrams, graphs, tables. Nothing here prints."""

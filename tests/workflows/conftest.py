from tests.twins.beside import in_cluster, plan, twin  # noqa: F401 - fixtures

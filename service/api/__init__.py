"""HTTP: thin routes over the use cases of ``service.operations``."""

"""A Docker of its own, with base images of Debian packages, for docker-compose.yaml where no registry is reached."""

from sandbox.docker.host import DockerHost, requirements

__all__ = ["DockerHost", "requirements"]

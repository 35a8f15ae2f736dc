"""What every check of readiness is: data of the checklist, asked of its source, with a verdict and evidence."""

from __future__ import annotations

import abc
import logging
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover.models.evidence import Evidence, unknown
from handover.models.readiness import Subject
from handover.plan.parts import Section
from handover.ports.kube import KubeError

if TYPE_CHECKING:
    from handover.plan.model import Plan

log = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10.0
MISFORMED = (KeyError, IndexError, TypeError, AttributeError, ValueError)


class NoAnswer(Exception):
    """The source did not say what was asked; the text says why and holds no secret."""


@dataclass(frozen=True)
class Scope:
    """What a check is told: the plan, the release, and the time (seconds since the epoch)."""

    plan: Plan
    subject: Subject
    now: float


class CheckKind(Section):
    """One question to one source. Its fields are its parameters in the checklist; ``kind`` names the class."""

    kind: str

    @abc.abstractmethod
    def look(self, scope: Scope) -> Evidence:
        """Asks the source. May raise anything: that is UNKNOWN, never a pass (see `judged`)."""


def judged(check: CheckKind, scope: Scope) -> Evidence:
    """What the check concludes, or UNKNOWN with the reason when its source could not be asked.

    Texts of errors that are not our own stay out of the evidence, for they may quote a secret.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException
    from botocore.exceptions import BotoCoreError, ClientError
    from requests import RequestException

    try:
        return check.look(scope)
    except (NoAnswer, KubeError, AirflowNotFoundException) as error:
        return unknown(check.kind, str(error))
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "an unnamed error")
        return unknown(check.kind, f"{error.operation_name} was refused: {code}")
    except (BotoCoreError, RequestException, OSError) as error:
        return unknown(check.kind, f"the source does not answer: {type(error).__name__}")
    except MISFORMED as error:
        _log_place(check, error)
        return unknown(check.kind, f"the source's answer has another form than expected ({type(error).__name__})")
    except Exception as error:
        _log_place(check, error)
        return unknown(check.kind, f"the source could not be asked: {type(error).__name__}")


def _log_place(check: CheckKind, error: Exception) -> None:
    """Where it happened, without its text."""
    log.warning("%s: %s\n%s", check.kind, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))

"""Manifests that people write: taken as Kubernetes takes them, or refused when the plan is loaded."""

from __future__ import annotations

import shutil

import pytest

from handover.plan import manifest
from handover.plan.load import PlanError, load_plan
from handover.plan.parts import INCLUDE, PLANS_VARIABLE
from handover.workload import manifests

DEPLOYMENT = (INCLUDE / "k8s" / "deployment.yaml").read_text()
REAL = manifest.filled
NOTED = '  annotations:\n    handover/version: "$version"\nspec:'


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Loads the plan with another manifest beside it, and gives its green colour."""
    for folder in ("plans", "k8s"):
        shutil.copytree(INCLUDE / folder, tmp_path / folder)
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))

    def made(text, file="deployment.yaml"):
        (tmp_path / "k8s" / file).write_bytes(text if isinstance(text, bytes) else text.encode())
        plan = load_plan(tmp_path / "plans" / "pms.yaml")
        return manifests.deployment(plan, "green", "v1.2.3", "web@sha256:" + "0" * 64, 3)

    return made


@pytest.mark.parametrize("value", ["$(POD_NAME)", "costs $5", "$", "$$(POD_NAME)", "$$HOME", "a$"])
def test_a_dollar_that_begins_no_name_is_the_manifests_own(written, value):
    made = written(DEPLOYMENT.replace('value: "$port"', f'value: "{value}"'))
    env = made["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env[-1] == {"name": "PORT", "value": value.replace("$$", "$")}


def test_a_key_without_a_value_is_not_there(written):
    made = written(DEPLOYMENT.replace(NOTED, "  annotations:\nspec:"))
    assert set(made["metadata"]["annotations"]) == {"handover/generation", "handover/image"}


@pytest.mark.parametrize(("text", "said"), [
    (DEPLOYMENT.replace('"$port"', '"${PORT}"'), r"nothing is called \$\{PORT\}: write \$\$\{PORT\} for a \$ "),
    (DEPLOYMENT.replace("$replicas", "$replica"), r"nothing is called \$replica: .*there are \$app, "),
    (DEPLOYMENT + "---\nkind: Service\n", "there is a second document in it"),
    (DEPLOYMENT + "  - a\n", "it is no YAML of one object"),
    ("- a\n", "it is no object of Kubernetes"), ("", "it is no object of Kubernetes"),
    (DEPLOYMENT.replace("kind: Deployment", "kind: StatefulSet"), "of kind StatefulSet, and has to be a Deployment"),
    (DEPLOYMENT.replace(NOTED, "  annotations: [a]\nspec:"), "metadata.annotations is no mapping"),
    (DEPLOYMENT[: DEPLOYMENT.index("  template:")], "spec.template is no mapping"),
    (DEPLOYMENT.replace("        - name: $container\n          image", "        - image"), "no list of containers"),
    (DEPLOYMENT.encode() + b"# \xe9\n", "it is not in UTF-8"),
], ids=["shell", "typo", "two", "yaml", "list", "empty", "kind", "notes", "no_pods", "no_name", "latin"])  # fmt: skip
def test_what_can_become_no_deployment_is_refused_when_the_plan_is_loaded(written, text, said):
    with pytest.raises(PlanError, match=f"cluster.manifest: .*include/k8s/deployment.yaml: .*{said}"):
        written(text)


def test_the_manifest_of_jobs_is_looked_at_too(written):
    with pytest.raises(PlanError, match=r"cluster.job_manifest: .*nothing is called \$port"):
        written((INCLUDE / "k8s" / "job.yaml").read_text().replace("mage: $image", "mage: $port"), "job.yaml")


@pytest.mark.parametrize("text", ["true", "12345", "1.0", "null", "~", "a: b #c", "[", "2026-11-29", "'", '"', "\\n"])
def test_a_text_is_filled_in_as_it_is_in_any_quotes(text):
    body = "a: $app\nb: \"$app\"\nc: '$app'\nd: {$app: [$app, x-$app]}\ne: |-\n  $app\n"
    found = manifest.filled(body, {"app": text})
    assert found == {"a": text, "b": text, "c": text, "d": {text: [text, f"x-{text}"]}, "e": text}


def test_a_number_is_one_outside_of_quotes():
    assert manifest.filled('a: $port\nb: "$port"\n', {"port": 80}) == {"a": 80, "b": "80"}


def test_what_is_filled_in_is_what_is_looked_for_when_a_plan_is_loaded(written, monkeypatch):
    asked = []
    monkeypatch.setattr(manifest, "filled", lambda text, values: asked.append(set(values)) or REAL(text, values))
    written(DEPLOYMENT)
    assert asked[-1] == set(manifest.COLOUR)

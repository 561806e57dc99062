"""What the manifests promise, read from what kustomize makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.check import OVERLAYS, render
from tests.server import ROOT
from tests.skipped import needs
from training.cli import commands as training_commands

pytestmark = needs("kubectl")
every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)

ROUTES = {"/predict", "/predict/batch", "/predict/features", "/model/info"}


@cache
def manifests(overlay: str) -> tuple[dict[str, Any], ...]:
    return tuple(yaml.safe_load_all(render(overlay)))


def of_kind(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests(overlay) if one["kind"] == kind}


def pod_specs(overlay: str) -> Iterator[dict[str, Any]]:
    for deployment in of_kind(overlay, "Deployment").values():
        yield deployment["spec"]["template"]["spec"]
    for job in of_kind(overlay, "CronJob").values():
        yield job["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def selects(selector: dict[str, str], overlay: str) -> set[str]:
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"] for name, one in of_kind(overlay, "Deployment").items()
    }
    return {name for name, had in labels.items() if selector.items() <= had.items()}


@every_overlay
def test_every_pod_is_restricted(overlay: str) -> None:
    for spec in pod_specs(overlay):
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert not spec["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"].keys() == {"requests", "limits"}


@every_overlay
def test_secrets_are_mounted_files_and_never_variables(overlay: str) -> None:
    for spec in pod_specs(overlay):
        (container,) = spec["containers"]
        assert "envFrom" not in container
        assert not [
            variable for variable in container.get("env", []) if "secretKeyRef" in variable.get("valueFrom", {})
        ]
        secrets = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
        assert {secret["defaultMode"] for secret in secrets} <= {0o440}


def test_the_key_of_the_decision_log_is_read_where_its_secret_is_mounted() -> None:
    spec = of_kind("production", "Deployment")["credit-scoring"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
    assert variables["DECISION_LOG_KEY_FILE"] == f"{mounts['decision-log']}/key"
    assert secrets["decision-log"] == "credit-scoring-decision-log"


@every_overlay
def test_everything_is_in_one_namespace(overlay: str) -> None:
    namespaces = {one["metadata"].get("namespace") for one in manifests(overlay) if one["kind"] != "Namespace"}
    assert namespaces == {"credit-scoring"}


@every_overlay
def test_what_was_begun_can_end_before_the_pod_is_killed(overlay: str) -> None:
    words = (
        (ROOT / "deploy" / "image" / "Containerfile")
        .read_text()
        .replace('"', "")
        .split("--timeout-graceful-shutdown, ")
    )
    for deployment in of_kind(overlay, "Deployment").values():
        spec = deployment["spec"]["template"]["spec"]
        pause = int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
        assert spec["terminationGracePeriodSeconds"] > pause + int(words[1].split(",")[0])


@every_overlay
def test_a_service_selects_the_deployment_of_its_name_and_no_other(overlay: str) -> None:
    for name, service in of_kind(overlay, "Service").items():
        if service["spec"].get("clusterIP") != "None":
            assert selects(service["spec"]["selector"], overlay) == {name}


@every_overlay
def test_the_pods_of_a_fit_are_its_ranks_and_find_each_other_by_name(overlay: str) -> None:
    job = of_kind(overlay, "CronJob")["credit-scoring-training"]["spec"]
    spec, template = job["jobTemplate"]["spec"], job["jobTemplate"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    service = of_kind(overlay, "Service")[template["spec"]["subdomain"]]["spec"]
    assert job["suspend"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", spec["parallelism"])
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    port, words = service["ports"][0]["port"], container["args"]
    machines = words[words.index("--machines") + 1].split(",")
    assert machines == [f"$(RUN)-{rank}.credit-scoring-training:{port}" for rank in range(spec["completions"])]
    # The rank comes from JOB_COMPLETION_INDEX, which Kubernetes gives to the pods of an indexed job.
    run = training_commands.commands["run"].make_context("run", [*words[2:], "--rank", "0"])
    assert run.params["shared"] == Path(words[words.index("--shared") + 1])
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {variable["name"]: variable.get("value") for variable in container["env"]}["TMPDIR"] in mounts


@every_overlay
def test_a_retraining_reads_the_decisions_and_the_applications_that_it_is_told_of(overlay: str) -> None:
    job = of_kind(overlay, "CronJob")["credit-scoring-retraining"]["spec"]
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    words = container["args"]
    assert (words[:2], job["concurrencyPolicy"], job["suspend"]) == (["training", "retrain"], "Forbid", True)
    told = training_commands.commands["retrain"].make_context("retrain", list(words[2:])).params
    assert told["if_drifted"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(told["log"]), str(told["data"].parent)} <= mounts
    home = {variable["name"]: variable.get("value") for variable in container["env"]}["BENTOML_HOME"]
    assert str(Path(home).parent) in mounts


def test_the_budget_is_of_the_stable_pods() -> None:
    (budget,) = of_kind("production", "PodDisruptionBudget").values()
    assert selects(budget["spec"]["selector"]["matchLabels"], "production") == {"credit-scoring"}


@pytest.mark.parametrize("overlay", ["staging", "production"])
def test_only_the_routes_of_callers_are_reachable_from_outside(overlay: str) -> None:
    for name, ingress in of_kind(overlay, "Ingress").items():
        (rule,) = ingress["spec"]["rules"]
        paths = rule["http"]["paths"]
        assert {(path["path"], path["pathType"]) for path in paths} == {(route, "Exact") for route in ROUTES}
        assert {path["backend"]["service"]["name"] for path in paths} == {name}
        assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_the_canary_has_its_own_image_and_a_share_of_the_requests() -> None:
    images = {
        name: one["spec"]["template"]["spec"]["containers"][0]["image"]
        for name, one in of_kind("production", "Deployment").items()
    }
    assert images == {
        "credit-scoring": "registry.example.com/credit-scoring:1",
        "credit-scoring-canary": "registry.example.com/credit-scoring:2",
    }
    annotations = of_kind("production", "Ingress")["credit-scoring-canary"]["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/canary-weight"] == "5"


@every_overlay
def test_there_are_at_most_ten_pods(overlay: str) -> None:
    (autoscaler,) = of_kind(overlay, "HorizontalPodAutoscaler").values()
    assert 2 <= autoscaler["spec"]["minReplicas"] < autoscaler["spec"]["maxReplicas"] == 10
    assert autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


@every_overlay
def test_the_settings_are_those_of_the_checkout(overlay: str) -> None:
    (settings,) = of_kind(overlay, "ConfigMap").values()
    assert settings["data"].keys() == {"serving.yaml", "monitoring.yaml"}
    for name, text in settings["data"].items():
        assert text == (ROOT / "configs" / name).read_text()


def test_what_a_model_must_prove_comes_from_a_config_map_that_need_not_be_there() -> None:
    spec = of_kind("production", "Deployment")["credit-scoring"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    asked = {variable["name"]: variable["valueFrom"] for variable in container["env"] if "valueFrom" in variable}
    assert asked == {
        f"CREDIT_SCORING_{key.upper()}": {
            "configMapKeyRef": {"name": "credit-scoring-trust", "key": key, "optional": True}
        }
        for key in ("digest", "signer")
    }

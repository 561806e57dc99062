"""What the manifests promise, read from what kustomize makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kubernetes.check import COMPONENTS, OVERLAYS, render
from features.cli import commands as feature_commands
from features.store import STORE_FILE_VARIABLE, STORE_VARIABLE
from tests.server import ROOT
from tests.skipped import needs
from training.cli import commands as training_commands

pytestmark = needs("kubectl")
WITH_STORE = tuple("+".join([overlay, *COMPONENTS]) for overlay in OVERLAYS)
every_overlay = pytest.mark.parametrize("overlay", [*OVERLAYS, *WITH_STORE])
with_store = pytest.mark.parametrize("overlay", WITH_STORE)

ROUTES = {"/predict", "/predict/batch", "/predict/features", "/model/info"}


@cache
def manifests(overlay: str) -> tuple[dict[str, Any], ...]:
    return tuple(yaml.safe_load_all(render(*overlay.split("+"))))


def of_kind(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in manifests(overlay) if one["kind"] == kind}


def pods(overlay: str) -> dict[str, dict[str, Any]]:
    """The template of each Deployment's and each job's pods."""
    jobs, deployments = of_kind(overlay, "CronJob"), of_kind(overlay, "Deployment")
    templates = {name: one["spec"]["jobTemplate"]["spec"]["template"] for name, one in jobs.items()}
    return templates | {name: one["spec"]["template"] for name, one in deployments.items()}


def pod_specs(overlay: str) -> Iterator[dict[str, Any]]:
    for template in pods(overlay).values():
        yield template["spec"]


def variables(spec: dict[str, Any]) -> dict[str, str | None]:
    """What each variable is, None where it comes from elsewhere."""
    (container,) = spec["containers"]
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}


def mounted_secrets(spec: dict[str, Any]) -> dict[str, str]:
    """The name of the Secret at each path; each is required and mounted to be read."""
    (container,) = spec["containers"]
    secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
    assert not any(secret["optional"] for secret in secrets.values())
    mounts = [mount for mount in container["volumeMounts"] if mount["name"] in secrets]
    assert all(mount["readOnly"] for mount in mounts)
    return {mount["mountPath"]: secrets[mount["name"]]["secretName"] for mount in mounts}


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
def test_secrets_are_mounted_files_and_no_variables(overlay: str) -> None:
    for spec in pod_specs(overlay):
        (container,) = spec["containers"]
        assert "envFrom" not in container
        assert not [one for one in container.get("env", []) if "secretKeyRef" in one.get("valueFrom", {})]
        assert STORE_VARIABLE not in variables(spec)
        secrets = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
        assert {secret["defaultMode"] for secret in secrets} <= {0o440}


def test_the_key_of_the_decision_log_is_read_where_its_secret_is_mounted() -> None:
    spec = of_kind("production", "Deployment")["credit-scoring"]["spec"]["template"]["spec"]
    folder, _, file = str(variables(spec)["DECISION_LOG_KEY_FILE"]).rpartition("/")
    assert (mounted_secrets(spec)[folder], file) == ("credit-scoring-decision-log", "key")


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


def store_users(overlay: str) -> set[str]:
    """Whose pods are told of a feature store."""
    return {name for name, pod in pods(overlay).items() if STORE_FILE_VARIABLE in variables(pod["spec"])}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_no_feature_store_unless_it_takes_the_component(overlay: str) -> None:
    assert not store_users(overlay)


@with_store
def test_who_reads_or_fills_the_feature_store_has_its_address_from_the_secret(overlay: str) -> None:
    jobs = {f"credit-scoring-{name}" for name in ("batch", "shards", "materialization")}
    assert store_users(overlay) == jobs | of_kind(overlay, "Deployment").keys()
    for spec in pod_specs(overlay):
        mounted = [path for path, name in mounted_secrets(spec).items() if name == "credit-scoring-feature-store"]
        file = variables(spec).get(STORE_FILE_VARIABLE)
        assert mounted == ([] if file is None else [file.removesuffix("/address")])


@with_store
def test_who_has_the_address_of_the_feature_store_may_reach_it_and_nobody_else(overlay: str) -> None:
    policy = of_kind(overlay, "NetworkPolicy")["credit-scoring-feature-store"]["spec"]
    labels, (among,) = policy["podSelector"]["matchLabels"], policy["podSelector"]["matchExpressions"]
    assert among["operator"] == "In"
    reached = {
        name
        for name, pod in pods(overlay).items()
        if labels.items() <= pod["metadata"]["labels"].items()
        and pod["metadata"]["labels"][among["key"]] in among["values"]
    }
    assert reached == store_users(overlay)
    assert [(rule["to"], [port["port"] for port in rule["ports"]]) for rule in policy["egress"]] == [
        ([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}], ports)
        for name, ports in (("kube-system", [53, 53]), ("feature-store", [6379]))
    ]


@with_store
def test_the_feature_store_is_filled_from_the_volume_of_training_once_somebody_allows_it(
    overlay: str,
) -> None:
    job = of_kind(overlay, "CronJob")["credit-scoring-materialization"]["spec"]
    spec = pods(overlay)["credit-scoring-materialization"]["spec"]
    (container,) = spec["containers"]
    words = container["args"]
    assert (words[:2], job["concurrencyPolicy"], job["suspend"]) == (["features", "materialize"], "Forbid", True)
    told = feature_commands.commands["materialize"].make_context("materialize", list(words[2:])).params
    assert told["store"] is None
    (mount,) = [one for one in container["volumeMounts"] if one["mountPath"] == str(told["data"].parent)]
    (volume,) = [one for one in spec["volumes"] if one["name"] == mount["name"]]
    assert volume["persistentVolumeClaim"] == {"claimName": "credit-scoring-training"}
    assert mount["readOnly"]
    trained = pods(overlay)["credit-scoring-training"]["spec"]["containers"]
    assert container["image"] == trained[0]["image"]


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

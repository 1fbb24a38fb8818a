"""The committed OpenAPI documents and reference pages are those of the code as it is."""

from __future__ import annotations

import re
import subprocess
import sys

from etude_proto import CONTRACT_VERSION
from support.contract import ROOT, JsonObject, openapi, operations


def test_openapi_is_committed(service: str, documents: dict[str, JsonObject]) -> None:
    assert openapi(service) == documents[service], "run `make contract` and commit the change"


def test_everything_derived_is_committed() -> None:
    script = [sys.executable, str(ROOT / "proto" / "generate.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `make contract`: {done.stdout}{done.stderr}"


def test_documents_carry_the_contracts_version(documents: dict[str, JsonObject]) -> None:
    versions = {}
    for name, document in documents.items():
        assert isinstance(document["info"], dict)
        versions[name] = document["info"]["version"]
    assert versions == dict.fromkeys(documents, CONTRACT_VERSION)


def test_paths_follow_the_conventions(service: str, documents: dict[str, JsonObject]) -> None:
    for name, (method, path) in operations(documents[service]).items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), name
        parts = [part for part in path.split("/") if part and not part.startswith("{")]
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", part) for part in parts), path
        assert parts[0] == "v1" or len(parts) == 1, path
        assert method in ("GET", "POST", "PATCH", "DELETE"), path


def test_errors_are_our_problems_only(service: str, documents: dict[str, JsonObject]) -> None:
    """4xx and 5xx are declared on every call under /v1, as problem documents and nothing else."""
    document = documents[service]
    paths, components = document["paths"], document["components"]
    assert isinstance(paths, dict)
    assert isinstance(components, dict)
    assert "HTTPValidationError" not in components["schemas"]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, item in paths.items():
        for method, operation in item.items():
            answers = operation["responses"]
            wanted = {"4XX", "5XX"} if path.startswith("/v1/") else set()
            assert wanted <= set(answers), f"{method} {path}"
            for status, answer in answers.items():
                if status[0] in "45" and path.startswith("/v1/"):
                    assert answer["content"] == problem, f"{method} {path} {status}"


def test_mutating_calls_of_the_sampler_require_a_key(documents: dict[str, JsonObject]) -> None:
    paths = documents["sampler"]["paths"]
    assert isinstance(paths, dict)
    for path, item in paths.items():
        for method, operation in item.items():
            required = {
                parameter["name"]
                for parameter in operation.get("parameters", [])
                if parameter["in"] == "header" and parameter["required"]
            }
            assert ("Idempotency-Key" in required) == (method != "get"), f"{method} {path}"


def test_changing_a_run_needs_its_revision(documents: dict[str, JsonObject]) -> None:
    paths = documents["sampler"]["paths"]
    assert isinstance(paths, dict)
    parameters = paths["/v1/runs/{run_id}"]["patch"]["parameters"]
    assert "if-match" in {parameter["name"].lower() for parameter in parameters}


def test_fields_explain_themselves_in_openapi(documents: dict[str, JsonObject]) -> None:
    """What stands below a field of a model is its description in the document."""
    components = documents["sampler"]["components"]
    assert isinstance(components, dict)
    run = components["schemas"]["RunCreate"]["properties"]
    assert run["group_size"]["description"] == "G: rollouts per task."

"""What the Tab key gives for the verbs of ``hcm``, with a service that runs and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hcm_agent.cli import PROGRAM, cli
from tests.support.chain import write_private
from tests.support.hcm_service import HcmService, running_service, text_for


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HcmService]:
    folder = tmp_path_factory.mktemp("hcm")
    names = ("orders", "orders-db", "stock")
    entries = [{"ConnectionString": text_for(name), "Target": "db:5432"} for name in names]
    config = write_private(folder / "hcm.json", {"HybridConnections": entries})
    with running_service(folder, config=config) as running:
        yield running


def completed(line: str, state: Path) -> list[str]:
    """What bash is given for the last word of the line."""
    environment = {
        "_HCM_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "HCM_STATE": str(state),
    }
    result = CliRunner().invoke(cli, [], prog_name=PROGRAM, env=environment)
    assert result.exit_code == 0
    return [row.partition(",")[2] for row in result.output.split()]


@pytest.mark.parametrize("verb", ["show", "remove", "restart"])
def test_names_are_those_that_the_service_has(service: HcmService, verb: str) -> None:
    state = service.state.path

    assert completed(f"hcm {verb} -n or", state) == ["orders", "orders-db"]
    assert completed(f"hcm {verb} --namespace con", state) == ["contoso"]


def test_a_name_fits_the_namespace_that_was_typed(service: HcmService) -> None:
    state = service.state.path

    assert completed("hcm show -ns CONTOSO -n ST", state) == ["stock"]
    assert completed("hcm show -ns fabrikam -n st", state) == []


def test_the_service_that_is_named_is_asked(service: HcmService, tmp_path: Path) -> None:
    assert completed(f"hcm show --state {service.state.path} -n st", tmp_path) == ["stock"]


def test_without_a_service_there_is_nothing_and_no_error(tmp_path: Path) -> None:
    assert completed("hcm show -n or", tmp_path) == []

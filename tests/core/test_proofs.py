"""A proof holds for the files and the torch that it was made with."""

from __future__ import annotations

from made_runs import begin, checkpoint
from tsuzuku.core.preview import preview
from tsuzuku.core.proofs import installed_torch
from tsuzuku.core.resume import Plan, plan_resume
from tsuzuku.core.store import Store
from tsuzuku.core.workspace import Workspace


def test_a_proof_goes_stale_with_a_file_or_torch(workspace: Workspace, store: Store) -> None:
    run = begin(workspace, store)
    checkpoint(run, 1)

    def planned() -> Plan:
        return plan_resume(workspace, store, run.run_id, [])

    def record(torch: str, exact: bool, time: float) -> None:
        plan = planned()
        source = {one.label: one.sha256() for one in (plan.model, plan.dataset)}
        verdict = {"exact": exact, "source_sha256": source, "pytorch_version": torch, "kills": 3}
        store.put_proof("tiny", "noise", "hashes", verdict, time)

    assert preview(planned(), store).proof is None
    record(installed_torch(), exact=False, time=1.0)
    record(installed_torch(), exact=True, time=2.0)
    found = preview(planned(), store).proof
    assert found is not None
    assert (found.exact, found.current, found.stale_because, found.kills) == (True, True, [], 3)
    path = workspace.root / "models" / "tiny.py"
    path.write_text(path.read_text() + "\n# changed\n")
    found = preview(planned(), store).proof
    assert found is not None
    assert (found.current, found.stale_because) == (False, ["models/tiny.py"])
    record("0.1", exact=True, time=3.0)
    found = preview(planned(), store).proof
    assert found is not None
    assert found.stale_because == ["torch"]

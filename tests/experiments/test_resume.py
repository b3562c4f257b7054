"""Whatever interrupts a study, it ends with the bits of a straight run; and repeating it trains nothing."""

import json

import numpy as np
import pytest

STAGES = ("between layers", "at the start of fine-tuning", "during a save", "during the report")
STOPPED = "everything is saved, repeat the command to go on"


def without_runtime(found):
    """The files, with config.json as values less where and how the command executed, and for how many seeds."""
    read = {path: json.loads(content) for path, content in found.items() if path.endswith("config.json")}
    kept = {
        path: {key: one[key] for key in one if key not in ("runtime", "seeds", "environment")}
        for path, one in read.items()
    }
    return found | kept


def run_files(found):
    """Files of single runs: VARIANT/HASH/seed=K/NAME."""
    return {path: content for path, content in found.items() if "/seed=" in path}


def lines_beside_progress(text):
    return [line for line in text.splitlines() if not line.startswith("[")]


def assert_same(found, parameters, straight):
    """Every file and the last checkpoint of every fit are those of the straight run, to the last bit."""
    seen, expected_parameters, _ = straight
    _, expected, _, _ = seen["first"]
    assert without_runtime(found) == without_runtime(expected)
    assert {path.rsplit("/", 1)[-1] for path in expected} == {
        *("config.json", "metrics.jsonl", "result.json", "status.json", "outcomes.npz", "results.csv", "claims.json")
    }
    assert set(parameters) == set(expected_parameters) == {"autoencoder_layer1", "autoencoder_layer2", "depth2"}
    for fit, arrays in expected_parameters.items():
        assert set(parameters[fit]) == set(arrays)
        assert any("params" in name and "kernel" in name for name in arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(parameters[fit][name], array, strict=True)


def test_a_straight_run_trains_everything_once(straight):
    seen, _, _ = straight
    done, found, _, programs = seen["first"]
    assert (done.code, lines_beside_progress(done.err)) == (0, [])
    assert "4 runs trained, 0 already there" in done.out
    statuses = [json.loads(content)["status"] for path, content in found.items() if path.endswith("status.json")]
    assert statuses == ["done"] * 4
    # One chunk in each fit: the pictures are drawn from what is stored.
    assert len({path.rsplit("/", 1)[0] for path in programs}) == len({path.split("/")[2] for path in programs}) == 3


def test_killed_four_times_it_ends_with_the_same_bits(straight, killed):
    seen, found, parameters = killed
    assert [seen[stage].code for stage in STAGES] == [-9] * 4
    assert seen["end"].code == 0, seen["end"].err
    assert "0 runs trained, 4 already there" in seen["end"].out  # all had ended when the report was cut off
    assert_same(found, parameters, straight)


def test_a_truncated_checkpoint_is_told_and_the_one_before_is_taken(killed):
    seen, _, _ = killed
    (line,) = lines_beside_progress(seen["during the report"].err)
    older, newer = seen["kept"]
    assert f"/{newer} is damaged (" in line and "is truncated): falling back to the one before" in line
    assert int(older) < int(newer)


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_saves_and_exits_within_three_seconds(stopped, name, code):
    seen, _, _ = stopped
    done = seen[name]
    assert done.code == code
    assert lines_beside_progress(done.err) == [f"stopped by {name}: {STOPPED}"]
    assert done.seconds < 3


def test_sigterm_in_the_middle_of_a_fit_saves_where_it_is(stopped):
    """Checkpoints are due every 30 seconds only: there was none before the signal."""
    seen, _, _ = stopped
    (step,) = seen["saved"]
    assert 0 < int(step) < 2400


def test_a_second_launcher_on_a_workdir_is_refused(stopped):
    seen, _, _ = stopped
    done = seen["second launcher"]
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("error: --workdir=") and "is in use by process " in line


def test_a_full_disk_is_told_on_one_line_and_the_last_good_checkpoint_stays(stopped):
    seen, _, _ = stopped
    done = seen["full disk"]
    assert done.code == 2
    (line,) = lines_beside_progress(done.err)
    assert line.startswith("error: could not save step ") and "Make room and repeat the command" in line
    assert f"checkpoints that stay: {seen['saved'][0]}" in line
    assert seen["after"] == seen["before"] != {}


def test_stopped_with_a_full_disk_and_a_flipped_bit_it_ends_with_the_same_bits(straight, stopped):
    seen, found, parameters = stopped
    assert seen["end"].code == 0, seen["end"].err
    (line,) = lines_beside_progress(seen["end"].err)
    assert "is damaged (" in line and "is altered): falling back to the one before" in line
    assert "4 runs trained, 0 already there" in seen["end"].out
    assert_same(found, parameters, straight)


def test_repeating_a_command_trains_nothing(straight):
    seen, _, _ = straight
    _, before, times, programs = seen["first"]
    done, after, times_after, programs_after = seen["again"]
    assert (done.code, done.err) == (0, "")
    assert "0 runs trained, 4 already there" in done.out
    assert after == before and programs_after == programs
    assert {path: times_after[path] for path in run_files(after)} == {path: times[path] for path in run_files(before)}


def test_more_seeds_extend_what_is_there(straight):
    seen, _, _ = straight
    _, before, times, _ = seen["again"]
    done, after, times_after, _ = seen["more"]
    assert done.code == 0 and "2 runs trained, 4 already there" in done.out
    old = run_files(before)
    assert {path: after[path] for path in old} == old
    assert {path: times_after[path] for path in old} == {path: times[path] for path in old}
    new = {path.rsplit("/", 1)[0] for path in run_files(after)} - {path.rsplit("/", 1)[0] for path in old}
    assert sorted(path.rsplit("/", 1)[1] for path in new) == ["seed=2"] * 2
    assert {path.rsplit("/", 1)[0] for path in new} == {path.rsplit("/", 2)[0] for path in old}


def test_a_report_of_what_is_there_trains_nothing_and_says_what_is_missing(straight):
    seen, _, workdir = straight
    _, before, _, programs = seen["more"]
    done, after, _, programs_after = seen["report"]
    assert done.code == 0 and "trained, 6 already there" in done.out
    assert "Not there yet: 1 of 4 runs of every variant." in done.out
    assert programs_after == programs
    assert {path: after[path] for path in before} == before  # results.csv and claims.json among them
    assert (workdir / "report.md").is_file()


def test_another_setting_lies_beside(straight):
    seen, _, _ = straight
    _, before, times, programs = seen["more"]
    done, after, times_after, programs_after = seen["beside"]
    assert done.code == 0 and "4 runs trained, 0 already there" in done.out
    old = run_files(before)
    assert {path: after[path] for path in old} == old
    assert {path: times_after[path] for path in old} == {path: times[path] for path in old}
    assert programs < programs_after
    new = {path.rsplit("/", 2)[0] for path in run_files(after)} - {path.rsplit("/", 2)[0] for path in old}
    assert [path.split("/")[0] for path in new] == ["random-2"] * 2
    assert b"denoising" not in after["results.csv"]  # the table is that of the command at hand


def test_a_tuning_point_that_diverges_is_told_and_not_chosen(straight):
    """A learning rate of 1e38 beside one of 0.3."""
    seen, _, _ = straight
    done, after, _, _ = seen["beside"]
    _, before, _, _ = seen["more"]
    states = {}
    for path in run_files(after).keys() - run_files(before).keys():
        if path.endswith("config.json"):
            folder = path.removesuffix("config.json")
            rate = json.loads(after[path])["hyper"]["learning_rate"]
            status, result = (json.loads(after[folder + name]) for name in ("status.json", "result.json"))
            states.setdefault((rate, status["status"]), []).append(result)
    assert {key: len(results) for key, results in states.items()} == {(0.3, "done"): 2, (1e38, "diverged"): 2}
    for result in states[1e38, "diverged"]:
        assert result["metrics"] == {} and result["diverged"].startswith("depth2 at step ")
    (line,) = [line for line in done.out.splitlines() if line.strip().startswith("random-2 ")]
    assert line.split()[1:3] == ["2", "0.3*"]
    assert len(set(line.split(",")[2] for line in after["results.csv"].decode().splitlines())) == 2  # a header, a hash


def test_extended_by_a_seed_is_the_same_as_all_seeds_at_once(straight, fresh):
    """The same command in another folder writes the same bytes."""
    seen, _, _ = straight
    done, at_once = fresh
    assert done.code == 0 and "6 runs trained, 0 already there" in done.out
    _, extended, _, _ = seen["more"]
    assert without_runtime(at_once) == without_runtime(extended)


def test_tensorboard_files_have_the_values_of_metrics_jsonl(straight):
    """Also those of runs that had ended before somebody asked for such files."""
    from tensorboardX.proto.event_pb2 import Event

    seen, _, workdir = straight
    _, found, _, _ = seen["more"]
    folders = [(workdir / path).parent for path in found if path.endswith("/metrics.jsonl")]
    assert len(folders) == 6
    for folder in folders:
        logged = {}
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            fit, step = row.pop("fit"), row.pop("step")
            logged |= {(f"{fit}/{name}", step): np.float32(value) for name, value in row.items()}
        (path,) = (folder / "tensorboard").iterdir()
        data, found = path.read_bytes(), {}
        while data:  # TFRecord: 8 bytes of length, 4 of its CRC, the event, 4 of its CRC
            length = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + length])
            found |= {(value.tag, event.step): np.float32(value.simple_value) for value in event.summary.value}
            data = data[16 + length :]
        assert found == logged and len(found) >= 4 * 12

"""Claims about a start from other weights: the right ones, without their head, by digest, and no code is run."""

import dataclasses
import pickle

import pytest
import safetensors.torch
import torch
import torchvision

from petpark_assets.domain.errors import InvalidInput, PetparkError, TransientError
from petpark_assets.domain.files import sha256_file
from petpark_assets.domain.model.network import build_network
from petpark_assets.domain.model.pretrained import load_start
from petpark_assets.domain.model.train import fit
from petpark_assets.domain.recipes import Hyperparameters
from petpark_assets_tests.domain.model.squares import PREPROCESSING, TINY, weights_bytes


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_all_but_the_head_is_taken_from_a_file_of_either_kind(tmp_path, suffix):
    """Of a thousand classes, as ImageNet's files are: the head is another's, and starts at random."""
    path = tmp_path / f"start{suffix}"
    state = build_network(TINY, num_classes=1000).state_dict()
    torch.save(state, path) if suffix == ".pth" else safetensors.torch.save_file(state, path)
    network = build_network(TINY)
    head = network.head.weight.detach().clone()
    assert load_start(network, dataclasses.replace(TINY, weights=str(path))) == sha256_file(path)
    assert torch.equal(network.head.weight, head)
    taken = network.state_dict()
    assert all(torch.equal(value, taken[name]) for name, value in state.items() if not name.startswith("head."))


def test_without_named_weights_nothing_is_touched():
    """From scratch is the default, and noted as such."""
    assert load_start(build_network(TINY), TINY) is None


def test_the_same_loop_learns_from_there_and_its_record_knows(tmp_path, data, fitted):
    """Another start, other weights: the digest is what tells two such models apart."""
    path = tmp_path / "start.safetensors"
    safetensors.torch.save_file(fitted.weights, path)
    started = fit(data, PREPROCESSING, dataclasses.replace(TINY, weights=str(path)), seed=0, device="cpu")
    assert started.pretrained == sha256_file(path)
    assert fitted.pretrained is None
    assert started.epochs[0].train_loss < fitted.epochs[0].train_loss
    assert weights_bytes(started) != weights_bytes(fitted)


def test_a_training_that_is_told_its_start_begins_from_no_other(tmp_path, data, fitted):
    """A search reads the file for each trial, hours apart; what another start comes to is no result of this one."""
    path = tmp_path / "start.safetensors"
    safetensors.torch.save_file(fitted.weights, path)
    told = dataclasses.replace(TINY, weights=str(path))
    with pytest.raises(TransientError, match=r"start\.safetensors was changed since .*: put it back"):
        fit(data, PREPROCESSING, told, seed=0, device="cpu", start="0" * 64, on_epoch=pytest.fail)
    assert fit(data, PREPROCESSING, told, seed=0, device="cpu", start=sha256_file(path)).pretrained


def test_weights_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    """Before an hour of training, with what to mend."""
    wide = tmp_path / "wide.safetensors"
    safetensors.torch.save_file(build_network(dataclasses.replace(TINY, width=16)).state_dict(), wide)
    (tmp_path / "torn.safetensors").write_bytes(b"no tensors")
    (tmp_path / "torn.pth").write_bytes(b"no tensors")
    (tmp_path / "word.pth").write_bytes(b"torn")  # an IndexError in its reader
    torch.save([1, 2], tmp_path / "list.pth")
    for weights, words in {
        str(wide): "not those of petnet: .* tensors differ, the first is",
        str(tmp_path / "none.pth"): "cannot be read",
        str(tmp_path / "torn.safetensors"): "no file of tensors",
        str(tmp_path / "torn.pth"): "no file of tensors",
        str(tmp_path / "word.pth"): "no file of tensors",
        str(tmp_path / "list.pth"): "must hold tensors by name",
        "DEFAULT": "torchvision has none for petnet",
    }.items():
        with pytest.raises(InvalidInput, match=words) as refused:
            load_start(build_network(TINY), dataclasses.replace(TINY, weights=weights))
        assert "\n" not in str(refused.value)


def test_a_file_with_code_in_it_is_refused_and_its_code_not_run(tmp_path):
    """A .pth from the internet is a pickle: reading it must not be running it."""
    touched, path = tmp_path / "touched", tmp_path / "evil.pth"

    class Evil:
        def __reduce__(self):
            return touched.touch, ()

    torch.save({"stem": Evil()}, path)
    with pytest.raises(InvalidInput, match="no file of tensors"):
        load_start(build_network(TINY), dataclasses.replace(TINY, weights=str(path)))
    assert not touched.exists()
    pickle.loads(pickle.dumps(Evil()))  # noqa: S301 - it would have been
    assert touched.exists()


def test_torchvisions_weights_are_started_from_but_for_their_head(tmp_path, monkeypatch):
    """By a digest of their tensors: the file is torchvision's, and may be packed otherwise tomorrow.

    Random ones, from a folder in place of its server, checked by their file's name as those are.
    """
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    told, kind = Hyperparameters(architecture="resnet18", weights="DEFAULT"), torchvision.models.ResNet18_Weights
    state = torchvision.models.resnet18().state_dict()
    backwards, other = dict(reversed(state.items())), state | {"bn1.weight": state["bn1.weight"] + 1}
    networks, digests = [], []
    for given in (state, backwards, other):
        torch.save(given, tmp_path / "new")
        served = (tmp_path / "new").rename(tmp_path / f"resnet18-{sha256_file(tmp_path / 'new')[:8]}.pth")
        monkeypatch.setattr(kind, "url", served.as_uri())
        networks.append(build_network(told))
        head = {name: value.clone() for name, value in networks[-1].fc.state_dict().items()}
        digests.append(load_start(networks[-1], told))
        assert (tmp_path / "torch/hub/checkpoints" / served.name).exists()
        assert all(torch.equal(value, head[name]) for name, value in networks[-1].fc.state_dict().items())
    assert digests[0] == digests[1] != digests[2]
    taken = networks[0].state_dict()
    assert all(torch.equal(value, taken[name]) for name, value in state.items() if not name.startswith("fc."))


def test_what_lies_in_place_of_torchvisions_weights_is_refused_and_not_run(tmp_path, monkeypatch):
    """Whoever puts a file there is not torchvision, and torch checks the hash of what it downloads alone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    told, touched = Hyperparameters(architecture="resnet18", weights="DEFAULT"), tmp_path / "touched"
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "url", (tmp_path / "resnet18-0badc0de.pth").as_uri())
    there = tmp_path / "torch/hub/checkpoints/resnet18-0badc0de.pth"

    class Evil:
        def __reduce__(self):
            return touched.touch, ()

    (tmp_path / there.name).write_bytes(b"damaged on the way")
    with pytest.raises(TransientError, match=r"arrived damaged \(.*\): run the same command again"):
        load_start(build_network(told), told)
    assert not there.exists()
    for content in ({"conv1.weight": Evil()}, None):
        torch.save(content, there) if content else there.write_bytes(b"torn")
        with pytest.raises(InvalidInput, match=r"no file of tensors alone \(.*\): delete it there") as refused:
            load_start(build_network(told), told)
        assert "\n" not in str(refused.value)
    assert not touched.exists()


def test_torchvisions_names_are_offered_and_a_missing_network_is_one_line(tmp_path, monkeypatch):
    """Tests reach no network: what a person without one sees is one line with the way round."""
    told = Hyperparameters(architecture="resnet18", weights="DEFAULT")
    network = build_network(told)
    with pytest.raises(InvalidInput, match="for resnet18 one of IMAGENET1K_V1"):
        load_start(network, dataclasses.replace(told, weights="IMAGENET"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(PetparkError, match=r"could not be downloaded .*give a file of them") as refused:
        load_start(network, told)
    assert "\n" not in str(refused.value)

"""fastrnn.torch with processes and threads: DistributedDataParallel, DataLoader workers, one OpenMP runtime."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import fastrnn
import fastrnn.torch
from fastrnn import _core

ROOT = Path(__file__).resolve().parents[1]
threaded = pytest.mark.skipif(_core.openmp_version() == "none", reason="a build without OpenMP")


def run_python(code, *arguments, **environment):
    environment = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=100
    )


# ---- several processes ----


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_two_processes_have_the_loss_curve_of_one_with_the_joint_batch(cell, tmp_path):
    options = ["--cell", cell, "--hidden-size", "24", "--batch-size", "8", "--num-steps", "12", "--updates", "12"]
    example, curves = str(ROOT / "examples" / "ddp_lm.py"), []
    for name, launcher in {
        "one": [],
        "two": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    }.items():
        path = tmp_path / f"{name}.json"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        result = subprocess.run(
            [sys.executable, *launcher, example, *options, "--curve", str(path)],
            env=environment, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        curves.append(torch.tensor(json.loads(path.read_text())))
    assert curves[0][-1] < curves[0][0] - 0.3
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_fully_sharded_modules_train_as_whole_ones():
    """Between two uses, FSDP frees gathered parameters by resizing their storages."""
    code = """if True:
        import copy, os, torch, fastrnn.torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.rnn, self.gru = fastrnn.torch.LSTM(4, 5, 2), fastrnn.torch.GRU(5, 5)
                self.cell = fastrnn.torch.RNNCell(5, 5)

            def forward(self, x):
                y = self.gru(self.rnn(x)[0])[0]
                return self.cell(self.cell(y[0]), y[1])

        torch.manual_seed(0)
        torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        mesh = init_device_mesh("cpu", (1,))
        whole = Model()
        sharded = copy.deepcopy(whole)
        for module in (*sharded.children(), sharded):
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        optimizers = [torch.optim.SGD(model.parameters(), 0.1) for model in (whole, sharded)]
        for _ in range(3):
            x, losses = torch.randn(6, 3, 4), []
            for model, optimizer in zip((whole, sharded), optimizers):
                with torch.no_grad():
                    model(x)
                loss = model(x).square().sum()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                losses.append(loss.item())
            print(losses[0] == losses[1])
        torch.distributed.destroy_process_group()
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        pytest.skip("torch has it from 2.6 on")
    result = run_python(code, GLOO_SOCKET_IFNAME="lo")
    assert result.stdout.split() == ["True"] * 3, result.stderr


WORKERS = """if True:
    import sys, torch, fastrnn.torch

    class Data(torch.utils.data.Dataset):
        def __init__(self):
            torch.manual_seed(0)
            self.module = fastrnn.torch.GRU(3, 40)

        def __len__(self):
            return 12

        def __getitem__(self, j):
            with torch.no_grad():
                return self.module(torch.full((20, 30, 3), float(j)))[0]

    if __name__ == "__main__":
        data = Data()
        x = torch.randn(50, 64, 3)
        data.module(x)[0].sum().backward()  # a team of threads in the parent
        expected = [data[j] for j in range(12)]
        loader = torch.utils.data.DataLoader(
            data, batch_size=None, num_workers=2, multiprocessing_context=sys.argv[1], timeout=60
        )
        for epoch in range(2):
            for j, y in enumerate(loader):
                assert torch.equal(y, expected[j]), j
                data.module(x)[0].sum().backward()  # while workers run
        print("done")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_dataloader_and_their_parent_use_fastrnn(method, tmp_path):
    if method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    result = subprocess.run([sys.executable, str(script), method], capture_output=True, text=True, timeout=100)
    assert result.stdout.strip() == "done", result.stderr


def test_parameters_in_shared_memory_that_another_process_changes():
    code = """if True:
        import os, torch, fastrnn.torch
        module, x = fastrnn.torch.GRU(3, 4), torch.randn(5, 2, 3)
        module.share_memory()
        with torch.no_grad():
            before = [module(x)[0] for _ in range(3)][-1]
            child = os.fork()
            if child == 0:
                module.weight_ih_l0.mul_(2)
                os._exit(0)
            os.waitpid(child, 0)
            plain = fastrnn.torch.restore(module, inplace=False).model
            print(not torch.equal(module(x)[0], before), torch.allclose(module(x)[0], plain(x)[0], atol=1e-5))
    """
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    assert run_python(code).stdout.split() == ["True", "True"]


def test_threads_share_a_module():
    module = fastrnn.torch.LSTM(8, 16, num_layers=2)
    inputs = [torch.randn(10, 4, 8) for _ in range(8)]
    expected = [module(x)[0].detach() for x in inputs]
    wrong = []

    def work(j):
        with torch.no_grad():
            for _ in range(50):
                if not torch.equal(module(inputs[j])[0], expected[j]):
                    wrong.append(j)

    threads = [threading.Thread(target=work, args=(j,)) for j in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- OpenMP ----


@threaded
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no /proc")
@pytest.mark.parametrize("order", ["torch, fastrnn", "fastrnn, torch"])
def test_one_openmp_runtime_in_a_process(order):
    code = f"""if True:
        import re
        import {order}
        import fastrnn.torch
        y, _ = fastrnn.torch.LSTM(64, 64)(torch.ones(50, 64, 64))
        (torch.ones(1000, 1000) @ torch.ones(1000, 1000)).sum()
        maps = open("/proc/self/maps").read()
        print(*sorted({{line.split()[-1] for line in maps.splitlines() if re.search("lib(g|i|)omp", line)}}))
    """
    result = run_python(code)
    assert len(re.findall(r"\S+", result.stdout)) == 1, result.stdout + result.stderr


@threaded
def test_the_number_of_threads_is_torchs_until_set():
    code = """if True:
        import torch, fastrnn
        quota = fastrnn.config._quota or torch.get_num_threads() + 2
        print(fastrnn.get_num_threads() == min(torch.get_num_threads(), quota))
        for n in (1, 2):
            torch.set_num_threads(n)
            print(fastrnn.get_num_threads() == min(n, quota))
        import threading, fastrnn.torch
        torch.set_num_threads(1)
        def work():
            fastrnn.torch.GRU(2, 3)(torch.ones(4, 1, 2))
            print(fastrnn.get_num_threads() == 1)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        fastrnn.set_num_threads(1)
        torch.set_num_threads(2)
        print(fastrnn.get_num_threads() == 1, torch.get_num_threads() == 2)
    """
    assert set(run_python(code).stdout.split()) == {"True"}


def test_fastrnn_does_not_import_torch_and_fastrnn_torch_does_not_import_the_compiler():
    code = (
        "import sys, fastrnn; print('torch' in sys.modules);"
        " import fastrnn.torch; print('torch._dynamo' in sys.modules)"
    )
    assert run_python(code).stdout.split() == ["False", "False"]


def test_without_torch_the_import_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import fastrnn.torch"
    assert "pip install 'fastrnn[torch]'" in run_python(code).stderr

"""Several processes that train one network, one a GPU, as torchrun starts them; alone, nothing happens here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together. rank: from 0; the first one writes. world: how many there are."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @classmethod
    def join(cls, device: str) -> Processes:
        """By what torchrun says in the environment; alone where it says nothing."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size(), local_rank)

    @property
    def is_first(self) -> bool:
        """Writes checkpoints, weights and logs."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Their means over all processes, in place. None counts as zero, so that all processes send the same."""
        if self.world == 1:
            return
        own = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in own])
        torch.distributed.all_reduce(flat)
        flat /= self.world
        for parameter, gradient in zip(own, torch.split(flat, [p.numel() for p in own]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def same(self, value: float, device: str) -> float:
        """The first process's value."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=device)
        torch.distributed.broadcast(shared, 0)
        return float(shared.item())

    def leave(self) -> None:
        """Waits for the others to be done."""
        if self.world > 1:
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()

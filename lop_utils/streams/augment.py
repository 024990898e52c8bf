"""Random crops and flips of whole batches on the device: no worker process, no loop over images, one generator."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError


def random_crop(images: Tensor, *, pad: int, generator: torch.Generator, fill: float = 0.0) -> Tensor:
    """Each image (..., C, H, W) shifted at random by up to `pad` pixels each way, `fill` moving in at the edges.

    The same as padding by `pad` on all sides and cutting a window of the old size, each image at its own place.
    Offsets are whole numbers, uniform on 0..2 pad, rows first, then columns. `generator` is on the images' device.

    >>> images = torch.arange(4.0).view(1, 1, 2, 2)
    >>> random_crop(images, pad=0, generator=torch.Generator().manual_seed(0)).equal(images)
    True
    """
    if pad < 0:
        raise UsageError(f"crop with padding {pad}", remedy="choose 0 or more")
    flat = images.flatten(0, -4)  # (N, C, H, W)
    count, _, height, width = flat.shape
    padded = nn.functional.pad(flat, (pad,) * 4, value=fill)
    top, left = torch.randint(2 * pad + 1, (2, count, 1), generator=generator, device=images.device)
    rows = top + torch.arange(height, device=images.device)  # (N, H)
    columns = left + torch.arange(width, device=images.device)  # (N, W)
    image = torch.arange(count, device=images.device)[:, None, None]
    cut = padded.movedim(1, -1)[image, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return cut.movedim(-1, 1).reshape(images.shape)


def random_flip(images: Tensor, *, generator: torch.Generator, share: float = 0.5) -> Tensor:
    """Each image (..., C, H, W) mirrored left to right with probability `share`.

    >>> random_flip(torch.tensor([[[[1.0, 2.0]]]]), generator=torch.Generator().manual_seed(0), share=1.0)
    tensor([[[[2., 1.]]]])
    """
    if not 0 <= share <= 1:
        raise UsageError(f"flip with probability {share}", remedy="choose 0 to 1")
    drawn = torch.rand(images.shape[:-3], generator=generator, device=images.device) < share
    return torch.where(drawn[..., None, None, None], images.flip(-1), images)


def prepared(
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    decode: Callable[[Tensor], Tensor],
    pad: int = 0,
    flip: float = 0.0,
    seed: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """`batches` of bytes, augmented as bytes and then made numbers by `decode` (see `Source.decode`), on their device.

    >>> from lop_utils.streams.batches import batches
    >>> pixels = torch.zeros(8, 1, 4, 4, dtype=torch.uint8)
    >>> stream = batches(pixels, torch.zeros(8), batch_size=4, seed=0)
    >>> x, _ = next(prepared(stream, decode=lambda x: x.float(), pad=1, flip=0.5))
    >>> x.shape, x.dtype
    (torch.Size([4, 1, 4, 4]), torch.float32)
    """
    generator = None
    for x, y in batches:
        generator = generator or torch.Generator(x.device).manual_seed(seed)
        if pad:
            x = random_crop(x, pad=pad, generator=generator)
        if flip:
            x = random_flip(x, generator=generator, share=flip)
        yield decode(x), y

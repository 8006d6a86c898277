"""Splitting a run over machines: each takes the sources whose names fall to it."""

import hashlib
import re

from atas_deploy.core.errors import ConfigError

Shard = tuple[int, int]
"""(i, n): the i-th of n parts, 1 <= i <= n."""


def parse_shard(text: str) -> Shard:
    """Read a shard from text as "2/8".

    Raises:
        ConfigError: If it is not i/n with 1 <= i <= n.
    """
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*/\s*([0-9]{1,9})\s*", text)
    if match is None:
        raise _not_a_shard(repr(text))
    return check_shard((int(match[1]), int(match[2])))


def check_shard(shard: Shard) -> Shard:
    """Return a shard if it is one.

    Raises:
        ConfigError: If it is not (i, n) with 1 <= i <= n.
    """
    index, number = shard
    if not 1 <= index <= number:
        raise _not_a_shard(f"{index}/{number}")
    return shard


def in_shard(name: str, shard: Shard) -> bool:
    """Tell whether a name falls to a shard: to exactly one of n, the same on every machine."""
    index, number = shard
    # Names may hold bytes that are no UTF-8, which Python keeps as surrogates.
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % number == index - 1


def _not_a_shard(what: str) -> ConfigError:
    return ConfigError(f"The shard is {what}, expected i/n with 1 <= i <= n: write it as 2/8")

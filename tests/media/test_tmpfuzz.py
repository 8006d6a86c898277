import random
from contextlib import suppress
from fractions import Fraction
from atas_deploy.core.errors import InputError
from atas_deploy.media.video import *
import pytest
@pytest.mark.parametrize("name,audio",[("a.mp4","aac"),("a.mkv","pcm_s16le"),("a.ts","ac3"),("a.avi","libmp3lame"),("b.mkv","libopus")])
def test_f(make_clip,tmp_path,name,audio):
    src=make_clip(name,stamps=range(8),time_base=Fraction(1,25),size=(32,48),audio=audio,codec="mpeg4" if name=="a.avi" else "libx264")
    base=src.read_bytes(); rng=random.Random(1); bad={}
    for i in range(250):
        c=bytearray(base)
        for _ in range(rng.randint(0,10)): c[rng.randrange(len(c) if i%2 else min(len(c),1500))]=rng.randrange(256)
        if i%3==0: c=c[:rng.randrange(1,len(c))]
        p=tmp_path/("f"+name); p.write_bytes(c)
        try:
            with VideoReader(p,max_frames=60) as r, VideoWriter(tmp_path/"o.mp4",source=r) as w:
                try:
                    for f in r: w.write(f.image,f)
                except InputError: pass
        except InputError: continue
        except Exception as e: bad.setdefault(repr(e)[:150],[]).append(i)
    print(name,bad); assert not bad

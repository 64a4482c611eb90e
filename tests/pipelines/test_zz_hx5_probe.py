import time
import pytest
from tests.pipelines.release_desk import *
@pytest.fixture
def desk(tmp_path, tiny_base_model, monkeypatch):
    return make_release_desk(tmp_path, tiny_base_model, monkeypatch)
def test_x(desk, tmp_path):
    t=time.time()
    a1=desk.adapter(reads("berths","crane"))
    c,r=desk.propose()
    print(c, r.why_mode, r.left_out, [ (x.name,x.value,x.threshold,x.passed) for x in r.rules], time.time()-t)
    print({a.arm:{k:v['correct'] for k,v in a.slices.items()} for a in r.arms})
    print(desk.ask_approval(c)[1])
    d=desk.answer(c)
    print(desk.publish(c,d), time.time()-t)
    for name, v in {"good":reads(*ALL),"none":no_refusals,"shuf":shuffled,"other":of_another_corpus,"tag":reads("crane","fee","pilot")}.items():
        t=time.time()
        d2=desk.copy(tmp_path/name)
        d2.adapter(v,seed=1)
        c,r=d2.propose()
        print(name,c.outcome,c.why,r.why_mode,[ (x.name,x.value,x.threshold) for x in r.rules if not x.passed], time.time()-t)
    assert 0

"""The consumer `messaging`: what the facts say is kept, and timers are armed where something may be left unfinished."""

from libs.common.batch import Batch, Reject
from services.messaging.facts import Facts
from services.messaging.flows import Flow, Trigger
from services.messaging.store import facts as known
from services.messaging.store import flows as flow_store


async def on_customers(batch: Batch) -> None:
    """Keeps every fact's newest state and arms the timers of those that somebody may walk away from."""
    facts = Facts()
    for record in batch.records:
        try:
            facts.add(record.tenant, batch.data(record))
        except Reject as reject:
            batch.reject(record, reject.reason)
    await known.save(batch.tx, facts)
    await known.look_again(batch.tx, facts.ending(), batch.now)
    await known.look_again_at(batch.tx, facts.deleted_stores(), batch.now)
    for key, flows in _by_key(await flow_store.current(batch.tx, facts.tenants(), batch.now)).items():
        await _arm(batch, facts, key, flows)


async def _arm(batch: Batch, facts: Facts, key: str, flows: dict[str, Flow]) -> None:
    """`flows`: the tenants' versions of the flow `key`."""
    delays = {tenant: flow.steps[0].delay for tenant, flow in flows.items()}
    abandonable = _with_trigger(flows, "basket_abandoned")
    idle = [
        (tenant, basket, basket.changed_at + delays[tenant])
        for tenant, basket in facts.idle_baskets()
        if tenant in abandonable
    ]
    await known.arm(batch.tx, key, idle)
    await known.arm_reached(
        batch.tx,
        key,
        [account for account in facts.reached() if account[0] in abandonable],
        delays,
        {tenant: batch.now - flow.steps[0].delay - flow.steps[0].ceiling for tenant, flow in flows.items()},
    )
    lapsing = _with_trigger(flows, "profile_lapsed")
    touched = {
        account: batch.now if at is None else at + delays[account[0]]
        for account, at in facts.touched().items()
        if account[0] in lapsing
    }
    await known.arm_lapses(batch.tx, key, touched)


def _with_trigger(flows: dict[str, Flow], trigger: Trigger) -> set[str]:
    return {tenant for tenant, flow in flows.items() if flow.trigger == trigger}


def _by_key(flows: dict[tuple[str, str], Flow]) -> dict[str, dict[str, Flow]]:
    by_key: dict[str, dict[str, Flow]] = {}
    for (tenant, key), flow in sorted(flows.items(), key=lambda item: item[0]):
        by_key.setdefault(key, {})[tenant] = flow
    return by_key

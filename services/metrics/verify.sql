-- Every figure of every asked window, counted from the facts as the definitions read: no points, no kept sums.
-- $1 tenant; $2 to $5 the windows asked for: store ('*': all of them), currency, as_of, length.
WITH asked AS (
    SELECT a.n, a.store, a.currency, a.as_of, a.as_of - a.length AS since, a.as_of - 2 * a.length AS since_before
    FROM unnest($2::text[], $3::text[], $4::timestamptz[], $5::interval[])
        WITH ORDINALITY AS a(store, currency, as_of, length, n)
),

-- Counted orders, each with its buyer.
sold AS MATERIALIZED (
    SELECT o.store, o.source_id, o.checkout, o.currency, o.placed_at, a.profile AS buyer,
           o.gross, o.discounts, o.returns, o.gross - o.discounts - o.returns AS net, o.shipping, o.taxes
    FROM orders o
    LEFT JOIN accounts a ON a.tenant = o.tenant AND a.account = o.account
    WHERE o.tenant = $1 AND o.counted
),

-- Recovery messages, each with the orders that came after it: of the same checkout, or of its profile within 5 days.
recovered AS MATERIALIZED (
    SELECT DISTINCT ON (store, token) store, token, placed_at, net
    FROM (
        SELECT c.store, c.token, s.store AS sold_in, s.source_id, s.placed_at, s.net
        FROM recoveries r
        JOIN checkouts c ON c.tenant = r.tenant AND c.store = r.store AND c.token = r.token
        JOIN sold s ON s.store = c.store AND s.checkout = c.token
        WHERE r.tenant = $1 AND s.currency = c.currency AND s.placed_at > r.messaged_at
        UNION ALL
        SELECT c.store, c.token, s.store, s.source_id, s.placed_at, s.net
        FROM recoveries r
        JOIN checkouts c ON c.tenant = r.tenant AND c.store = r.store AND c.token = r.token
        JOIN accounts a ON a.tenant = c.tenant AND a.account = c.account
        JOIN sold s ON s.buyer = a.profile
        WHERE r.tenant = $1 AND s.currency = c.currency
          AND s.placed_at > r.messaged_at AND s.placed_at <= r.messaged_at + interval '5 days'
    ) AS after
    ORDER BY store, token, placed_at, sold_in, source_id
),

-- Checkouts that hold something, with what came of them.
held AS MATERIALIZED (
    SELECT c.store, c.currency, c.started_at, greatest(c.started_at, c.changed_at) AS changed_at,
           own.placed_at AS ordered_at, r.messaged_at, recovered.placed_at AS recovered_at, recovered.net AS recovered_net
    FROM checkouts c
    LEFT JOIN (SELECT store, checkout, min(placed_at) AS placed_at FROM sold GROUP BY store, checkout) AS own
        ON own.store = c.store AND own.checkout = c.token
    LEFT JOIN recoveries r ON r.tenant = c.tenant AND r.store = c.store AND r.token = c.token
    LEFT JOIN recovered ON recovered.store = c.store AND recovered.token = c.token
    WHERE c.tenant = $1 AND c.held
)

SELECT asked.n, sales.*, buyers.*, ever.*, begun.*, tried.*
FROM asked

CROSS JOIN LATERAL (
    SELECT count(*) AS orders, sum(s.gross) AS gross, sum(s.discounts) AS discounts, sum(s.returns) AS returns,
           sum(s.shipping) AS shipping, sum(s.taxes) AS taxes, count(s.buyer) AS bought
    FROM sold s
    WHERE s.currency = asked.currency AND asked.store IN ('*', s.store)
      AND s.placed_at >= asked.since AND s.placed_at < asked.as_of
) AS sales

-- Everyone who bought so far: when first and last, how often ever, in this window and in the one before.
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE b.now > 0) AS customers,
           count(*) FILTER (WHERE b.first_at >= asked.since) AS new,
           count(*) FILTER (WHERE b.now >= 2) AS repeat,
           count(*) FILTER (WHERE b.before > 0) AS customers_before,
           count(*) FILTER (WHERE b.now > 0 AND b.before > 0) AS retained,
           count(*) AS buyers_ever,
           count(*) FILTER (WHERE b.ever >= 2) AS buyers_twice,
           sum(extract(epoch FROM b.last_at - b.first_at) * 1000000) FILTER (WHERE b.ever >= 2) AS lifespans
    FROM (
        SELECT min(s.placed_at) AS first_at, max(s.placed_at) AS last_at, count(*) AS ever,
               count(*) FILTER (WHERE s.placed_at >= asked.since) AS now,
               count(*) FILTER (WHERE s.placed_at >= asked.since_before AND s.placed_at < asked.since) AS before
        FROM sold s
        WHERE s.buyer IS NOT NULL AND s.currency = asked.currency AND asked.store IN ('*', s.store)
          AND s.placed_at < asked.as_of
        GROUP BY s.buyer
    ) AS b
) AS buyers

CROSS JOIN LATERAL (
    SELECT sum(s.net) AS net_ever
    FROM sold s
    WHERE s.currency = asked.currency AND asked.store IN ('*', s.store) AND s.placed_at < asked.as_of
) AS ever

CROSS JOIN LATERAL (
    SELECT count(*) AS carts
    FROM carts c
    WHERE c.tenant = $1 AND c.held AND c.currency = asked.currency AND asked.store IN ('*', c.store)
      AND c.started_at >= asked.since AND c.started_at < asked.as_of
) AS begun

-- A checkout younger than 30 minutes is neither abandoned nor kept; one that was ordered before the message went out
-- (but told of too late) was not abandoned any more.
CROSS JOIN LATERAL (
    SELECT count(*) AS checkouts,
           count(*) FILTER (WHERE h.started_at <= asked.as_of - interval '30 minutes') AS ripe,
           count(*) FILTER (WHERE h.changed_at <= asked.as_of - interval '30 minutes'
                              AND (h.ordered_at IS NULL OR h.ordered_at >= asked.as_of)
                           ) AS abandoned,
           count(*) FILTER (WHERE h.ordered_at < asked.as_of) AS converted,
           count(*) FILTER (WHERE h.messaged) AS messaged,
           count(*) FILTER (WHERE h.messaged AND h.recovered_at < asked.as_of) AS recovered,
           sum(h.recovered_net) FILTER (WHERE h.messaged AND h.recovered_at < asked.as_of) AS recovered_net
    FROM (
        SELECT held.*, messaged_at < asked.as_of AND (ordered_at IS NULL OR ordered_at >= messaged_at) AS messaged
        FROM held
    ) AS h
    WHERE h.currency = asked.currency AND asked.store IN ('*', h.store)
      AND h.started_at >= asked.since AND h.started_at < asked.as_of
) AS tried
ORDER BY asked.n

"""Lines below and above an activation on intervals: any slope, with a proved intercept.

For a slope s the tightest line below σ on [l, u] is s z + t with

    t = min over [l, u] of σ(z) − s z,

and :func:`.minimum.least` bounds t from below. On a piece where σ′ falls (σ is concave) or is
constant, the minimum lies at the piece's ends. On a piece [p, q] where σ′ rises (σ is convex),
every point a of it gives a bound, because the graph lies above its tangent,

    σ(z) − s z ≥ σ(a) − s a − max(0, s − σ′(a)) (q − a) − max(0, σ′(a) − s) (a − p),

and at the root of σ′(a) = s nothing is lost. The pieces are those of :mod:`..pieces`; the same
function applied to −σ gives the lines above.
"""

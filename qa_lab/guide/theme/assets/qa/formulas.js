// The lab's formulas, for what a reader can move on a page. No page is touched here, so that
// tests/guide/test_explore.py can run this file and compare it with qa_lab.

const formulas = {
  // Independent standard normal numbers (mulberry32, Box and Muller). The same seed gives the same.
  gaussian(count, seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 4294967296;
    };
    return Array.from(
      { length: count },
      () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
    );
  },

  // attention.default_scale, and the two that it is not.
  scales: {
    root: (d_k) => 1 / Math.sqrt(d_k),
    none: () => 1,
    width: (d_k) => 1 / d_k,
  },

  // q·k has variance d_k: `directions` are draws of q·k / √d_k.
  scores(directions, d_k, scale) {
    return directions.map((z) => z * Math.sqrt(d_k) * formulas.scales[scale](d_k));
  },

  // masks.masked_softmax of one query, over keys that may all be seen.
  softmax(scores) {
    const largest = Math.max(...scores);
    const exponentials = scores.map((score) => Math.exp(score - largest));
    const total = exponentials.reduce((a, b) => a + b);
    return exponentials.map((e) => e / total);
  },

  // measure.entropy_share: 0 for one-hot weights, 1 for uniform ones.
  entropyShare(weights) {
    const entropy = -weights.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
    return entropy / Math.log(weights.length);
  },

  // The masks of qa_lab/transformer/attention/masks.py: may query q look at key k?
  looks: {
    full: () => true,
    causal: (q, k) => k <= q,
    // The popular mistake.
    strict: (q, k) => k < q,
    window: (q, k, { window }) => q - k >= 0 && q - k < window,
    prefix: (q, k, { prefix }) => k < prefix || k <= q,
    packed: (q, k, { documents }) => k <= q && documents[q] === documents[k],
  },

  // The keep mask, query by key: a look mask, and padding hidden as a key.
  keep(look, real, options = {}, queries = real.length) {
    const may = formulas.looks[look];
    return Array.from({ length: queries }, (_, q) =>
      real.map((isReal, k) => may(q, k, options) && isReal),
    );
  },
};

// The worker of the search: Material's, with queries read our way. What a reader types are words, while to
// lunr, inside Material, a leading minus means "not", a colon "in this field", a tilde "about this".
// And Chinese is cut into the words of the index; Material overlooks the last sign of a query.
// Which file is Material's stands in our address, behind the question mark: see theme/main.html.

// Material's numbers for its messages.
const SETUP = 0;
const QUERY = 2;

// Of a word itself, where 1 is the weight of what begins with it.
const WEIGHT = 4;
const SAYS_LITTLE = new Set("的 了 吗 呢 和 与 是 在 请 要 为什么 为何 什么 怎么 怎样 如何 哪些".split(" "));
const HAN = /\p{sc=Han}+/gu;

// The Chinese words of the index, and what they begin with.
const chinese = { words: new Set(SAYS_LITTLE), beginnings: new Set() };

function learn(docs) {
  for (const { title, text, keywords = "" } of docs) {
    for (const [word] of `${title}\u200b${text}\u200b${keywords}`.matchAll(HAN)) chinese.words.add(word);
  }
  for (const word of chinese.words) {
    for (let end = 1; end < word.length; end += 1) chinese.beginnings.add(word.slice(0, end));
  }
}

// "－1e9" as "1e9^4 1e9", "KV缓存" as "KV^4 KV 缓存^4 缓存", "softmax(QK^T)" as "softmax^4 softmax QK^4 QK T^4".
// 10⁹ is not 109, and dₖ is d_k in the index.
function lunrQuery(query) {
  const words = query
    .replace(/[⁰¹²³⁴-⁹]+/g, " $&")
    .replace(/(?<=\p{L})[₀-₉ₐ-ₜᵢ-ᵥⱼ]/gu, "_$&")
    .normalize("NFKC")
    .replace(HAN, (run) => ` ${cut(run).join(" ")} `)
    .replace(/(?<!\d)\.|\.(?!\d)|[^\p{L}\p{M}\p{N}_.]+/gu, " ")
    .split(" ")
    .filter(Boolean);
  const telling = words.filter((word) => !SAYS_LITTLE.has(word) && lunr.stopWordFilter(word.toLowerCase()));
  return (telling.length ? telling : words).map(weighted).join(" ");
}

// Words as long as they can be: of the index, or else what words of the index begin with.
function cut(run) {
  const longest = (known) => {
    for (let end = run.length; end > 0; end -= 1) if (known.has(run.slice(0, end))) return end;
    return 0;
  };
  const words = [];
  while (run) {
    const end = longest(chinese.words) || longest(chinese.beginnings) || 1;
    words.push(run.slice(0, end));
    run = run.slice(end);
  }
  return words;
}

// lunr takes a word with a weight as it is; any other Material lets be the beginning of one.
function weighted(word) {
  return word.length > 1 ? `${word}^${WEIGHT} ${word}` : `${word}^${WEIGHT}`;
}

// Material's listener comes after ours and gets the same message. Where it would cut Chinese, by
// `replace`, it is given what is cut already.
addEventListener("message", ({ data: message }) => {
  if (message.type === SETUP) learn(message.data.docs);
  if (message.type === QUERY) {
    const query = lunrQuery(message.data);
    message.data = { replace: () => query };
  }
});
importScripts(`../javascripts/workers/${location.search.slice(1)}`);

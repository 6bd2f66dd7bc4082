// Byte sequences on which HTTP/1 parsers are known to differ, and mutations of them: for the fuzz target and for the
// comparison with other servers. Sources: RFC 9112 §11.2, published request-smuggling research.

const GET = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

/** What a length or an encoding may look like, right and wrong. */
const FRAMINGS: readonly string[] = [
  "Content-Length: 5",
  "Content-Length: 0",
  "Content-Length: +5",
  "Content-Length: -5",
  "Content-Length: 5 ",
  "Content-Length:\t5",
  "Content-Length: 05",
  "Content-Length: 0x5",
  "Content-Length: 5,5",
  "Content-Length: 5, 6",
  "Content-Length: 5 5",
  "Content-Length: ",
  "Content-Length: 5\r\nContent-Length: 5",
  "Content-Length: 5\r\nContent-Length: 6",
  "Content-Length : 5",
  " Content-Length: 5",
  "Content-Length\t: 5",
  "Content-Length: 99999999999999999999",
  "Content_Length: 5",
  "Content-Length: 5\x00",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: Chunked",
  "Transfer-Encoding: chunked, identity",
  "Transfer-Encoding: identity",
  "Transfer-Encoding: identity, chunked",
  "Transfer-Encoding: gzip, chunked",
  "Transfer-Encoding: xchunked",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
  "Transfer-Encoding : chunked",
  "Transfer-Encoding:\x0bchunked",
  "Transfer-Encoding: \x00chunked",
  'Transfer-Encoding: "chunked"',
  "Transfer-Encoding: chunked;x=y",
  "Transfer-Encoding:\r\n chunked",
  "Transfer-Encoding\r\n : chunked",
  "X: y\nTransfer-Encoding: chunked",
  "X: y\rTransfer-Encoding: chunked",
  "Content-Length: 5\r\nTransfer-Encoding: chunked",
  "Transfer-Encoding: chunked\r\nContent-Length: 5",
];

const BODIES: readonly string[] = [
  "",
  "hello",
  "5\r\nhello\r\n0\r\n\r\n",
  "5\r\nhello\r\n0\r\nx: y\r\n\r\n",
  "05\r\nhello\r\n0\r\n\r\n",
  "5 \r\nhello\r\n0\r\n\r\n",
  "5;ext=1\r\nhello\r\n0\r\n\r\n",
  "5;ext\n=1\r\nhello\r\n0\r\n\r\n",
  "5\nhello\n0\n\n",
  "5\r\nhello0\r\n\r\n",
  "0x5\r\nhello\r\n0\r\n\r\n",
  "-5\r\nhello\r\n0\r\n\r\n",
  "5\r\nhelloXX0\r\n\r\n",
  "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
  "5\r\nhello\r\n0\r\nx y\r\n\r\n",
  "5\r\nhello\r\n0\r\n x: y\r\n\r\n",
  "5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n",
  "5\r\nhello\r\n00\r\n\r\n",
];

const HEADS: readonly string[] = [
  "GET / HTTP/1.1\nHost: h\n\n",
  "GET / HTTP/1.1\rHost: h\r\r",
  "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET /\tHTTP/1.1\r\nHost: h\r\n\r\n",
  "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
  "GET / HTTP/1.2\r\nHost: h\r\n\r\n",
  "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
  "GET / HTTP/01.1\r\nHost: h\r\n\r\n",
  "GET / http/1.1\r\nHost: h\r\n\r\n",
  "GET /\r\nHost: h\r\n\r\n",
  "G\x00T / HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET /#x HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET //a/../b HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
  "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET http://h/x HTTP/1.1\r\nHost: other\r\n\r\n",
  "GET http://h HTTP/1.1\r\nHost: h\r\n\r\n",
  "GET / HTTP/1.1\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n",
  "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h, i\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\n X: folded\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n\tfolded\r\n\r\n",
  "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\n: v\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nX: a\x01b\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nX: a\nb: c\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nX@: y\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
  "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
  "HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
  "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n",
  "POST / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
  "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
];

/** Every known case; each is followed by a request that must be read as a request of its own, or not at all. */
export function http1Inputs(): string[] {
  const inputs: string[] = HEADS.map((head) => head + GET);
  for (const framing of FRAMINGS) {
    for (const body of BODIES) {
      inputs.push(`POST /p HTTP/1.1\r\nHost: h\r\n${framing}\r\n\r\n${body}${GET}`);
    }
  }
  return inputs;
}

/** Bytes that parsers are touchy about, put in where they do not belong. */
const SPICE = [
  "\r",
  "\n",
  "\r\n",
  " ",
  "\t",
  "\0",
  ":",
  ",",
  ";",
  "\x0b",
  "\x7f",
  "\x80",
  "0",
  "\r\n\r\n",
  "chunked",
];

/** `input` with a few bytes changed. @param random uniform in [0, 1) */
export function mutate(input: string, random: () => number): string {
  let out = input;
  const times = 1 + Math.floor(random() * 3);
  for (let i = 0; i < times; i += 1) {
    const at = Math.floor(random() * (out.length + 1));
    const spice = SPICE[Math.floor(random() * SPICE.length)]!;
    const kind = random();
    if (kind < 0.4) out = out.slice(0, at) + spice + out.slice(at);
    else if (kind < 0.7) out = out.slice(0, at) + out.slice(at + 1 + Math.floor(random() * 3));
    else if (kind < 0.9) out = out.slice(0, at) + spice + out.slice(at + spice.length);
    else out = out.slice(0, at) + out.slice(Math.floor(at / 2), at) + out.slice(at);
  }
  return out;
}

/** A generator of numbers in [0, 1) that gives the same ones for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

// The load generators' framing of responses: the same however the bytes are cut.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ResponseFramer } from "../../bench/load/response-framer.ts";

const test = suite("bench response framer");

const response = (status: number, body: string) =>
  `HTTP/1.1 ${status} Reason\r\nServer: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

test("responses are counted at their last byte, wherever the bytes are cut", () => {
  const bodies = fc.array(fc.string({ unit: "binary-ascii" }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(bodies, fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (texts, sizes) => {
      const bytes = Buffer.from(texts.map((text) => response(200, text)).join(""), "latin1");
      const framer = new ResponseFramer();
      let complete = 0;
      for (let at = 0, i = 0; at < bytes.length; i += 1) {
        const size = sizes[i % sizes.length]!;
        complete += framer.push(bytes.subarray(at, at + size));
        at += size;
      }
      assert.is(complete, texts.length);
    }),
  );
});

test("the status is that of the last head", () => {
  const framer = new ResponseFramer();
  framer.push(Buffer.from(response(503, "")));
  assert.is(framer.status, 503);
});

test("what has no length, or is no response, is not guessed at", () => {
  for (const text of ["HTTP/1.1 200 OK\r\n\r\n", "nonsense\r\ncontent-length: 1\r\n\r\n"])
    assert.throws(() => new ResponseFramer().push(Buffer.from(text)), /not a response/);
});

test.run();

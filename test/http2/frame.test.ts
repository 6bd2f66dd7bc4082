// Frames cut out of a byte stream, and bytes gathered for writing.
import fc from "fast-check";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { FLAG, FrameReader, TYPE } from "../../src/http2/frame.ts";
import { Output } from "../../src/http2/output.ts";
import { type Frame, Frames, frameOf } from "../support/http2-frames.ts";

const test = suite("http2 frames");

const body = (size: number): Buffer => Buffer.from(Array.from({ length: size }, (_, i) => i & 0xff));
const someFrame = fc
  .record({
    type: fc.constantFrom(0, 0, 0, 1, 3, 4, 9, 200),
    padding: fc.option(fc.nat(255)),
    stream: fc.nat(9),
    size: fc.oneof(fc.nat(40), fc.nat(20_000)),
  })
  .map(({ type, padding, stream, size }) => {
    const padded = type === TYPE.DATA && padding !== null;
    const payload = padded
      ? Buffer.concat([Buffer.from([padding]), body(size), Buffer.alloc(padding)])
      : body(size);
    return {
      type,
      flags: padded ? FLAG.PADDED : 0,
      stream,
      size,
      bytes: frameOf(type, padded ? 8 : 0, stream, payload),
    };
  });

test("frames and their bodies are the same however the bytes are cut, padding is left out", () => {
  fc.assert(
    fc.property(
      fc.array(someFrame, { minLength: 1 }),
      fc.array(fc.integer({ min: 1, max: 9_000 })),
      (frames, cuts) => {
        const bytes = Buffer.concat(frames.map((frame) => frame.bytes));
        const reader = new Frames();
        const seen: Frame[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
          const size = cuts.length === 0 ? bytes.length : cuts[turn % cuts.length]!;
          const piece = Buffer.from(bytes.subarray(at, at + size));
          seen.push(...reader.push(piece));
          piece.fill(0xff);
          at += size;
        }
        assert.equal(seen.length, frames.length);
        frames.forEach(({ type, flags, stream, size }, index) => {
          const { payload, ...rest } = seen[index]!;
          assert.equal(rest, { type, flags, stream });
          assert.ok(payload.equals(body(size)));
        });
      },
    ),
    { numRuns: 60 },
  );
});

test("a body is given on as it comes, and of nothing else than it the beginning is kept", () => {
  const reader = new FrameReader();
  reader.push(frameOf(TYPE.DATA, 0, 1, body(50_000)).subarray(0, 10_000));
  assert.ok(reader.next() && reader.first && !reader.last);
  assert.is(reader.to - reader.from, 10_000 - 9);
  assert.not(reader.next());
  assert.not(reader.waiting);
});

test("what is written goes out in order, whole, and is not changed by what is written later", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(2), fc.oneof(fc.nat(100), fc.nat(10_000), fc.nat(70_000)), fc.boolean()), {
        maxLength: 200,
      }),
      (writes) => {
        const got: Buffer[][] = [[], [], []];
        // One copies what it is given and lets its memory be used again.
        const outputs = got.map(
          (list, which) =>
            new Output(
              (bytes) => list.push(which === 0 ? Buffer.from(bytes) : bytes),
              () => which === 0,
            ),
        );
        const meant: number[][] = [[], [], []];
        writes.forEach(([which, size, flush], index) => {
          const output = outputs[which]!;
          output.reserve(size + 10);
          output.bytes.fill(index & 0xff, output.at, output.at + size);
          output.at += size;
          for (let i = 0; i < size; i += 1) meant[which]!.push(index & 0xff);
          if (flush) output.flush();
        });
        for (const output of outputs) output.flush();
        got.forEach((list, which) => {
          assert.is(outputs[which]!.size, 0);
          assert.ok(Buffer.concat(list).equals(Buffer.from(meant[which]!)));
        });
      },
    ),
    { numRuns: 60 },
  );
});

test("what is discarded is never written", () => {
  const written: Buffer[] = [];
  const output = new Output(
    (bytes) => written.push(bytes),
    () => false,
  );
  output.reserve(10);
  output.at += 10;
  output.discard();
  output.flush();
  assert.is(written.length, 0);
});

test.run();

// Pages of what is about to be sent: shared, used again once nobody sends from them, and never written over before.
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dropSparePages, Output } from "../../src/http2/output.ts";

const test = suite("output");
const LARGE = 60_000;

/** A socket that takes what is written at once, or when it is told to. */
class Socket {
  readonly written: Buffer[] = [];
  /** What `written` held when it was written. */
  readonly expected: string[] = [];
  slow = false;
  tells = true;
  waits = false;
  readonly output = new Output(
    (bytes) => {
      this.written.push(bytes);
      this.expected.push(bytes.toString("latin1"));
      this.waits ||= this.slow;
    },
    () => !this.waits,
    () => this.tells,
  );

  send(text: string): void {
    this.output.reserve(text.length);
    this.output.at += this.output.bytes.write(text, this.output.at, "latin1");
    this.output.flush();
  }

  drain(): void {
    this.waits = false;
    this.output.drained();
  }

  get pages(): number {
    return new Set(this.written.map(({ buffer }) => buffer)).size;
  }

  /** Nothing that waits was written over. */
  assertIntact(): void {
    assert.equal(
      this.written.map((bytes) => bytes.toString("latin1")),
      this.expected,
    );
  }
}

const letters = (index: number, size = LARGE): string => String.fromCharCode(97 + (index % 26)).repeat(size);

test.before.each(dropSparePages);

test("a socket that takes all at once needs one page", () => {
  const socket = new Socket();
  for (let i = 0; i < 100; i += 1) socket.send(letters(i));
  assert.is(socket.pages, 1);
});

test("pages that a slow socket sends from are used again once it has drained, and not before", () => {
  const socket = new Socket();
  socket.slow = true;
  for (let round = 0; round < 20; round += 1) {
    for (let i = 0; i < 5; i += 1) socket.send(letters(round * 5 + i));
    const last = socket.written.splice(-5);
    const expected = socket.expected.splice(-5);
    assert.equal(
      last.map((bytes) => bytes.toString("latin1")),
      expected,
    );
    socket.written.push(...last);
    socket.drain();
  }
  assert.is(socket.pages, 5);
});

test("a page that two sockets send from is used again when both have drained", () => {
  const [one, other] = [new Socket(), new Socket()];
  one.slow = other.slow = true;
  one.send(letters(0, 30_000));
  other.send(letters(1, 30_000));
  assert.is(one.written[0]!.buffer, other.written[0]!.buffer, "they share it");
  one.drain();
  one.send(letters(2));
  assert.is.not(one.written[1]!.buffer, other.written[0]!.buffer);
  other.assertIntact();
  other.drain();
  const third = new Socket();
  third.send(letters(3));
  assert.is(third.written[0]!.buffer, other.written[0]!.buffer);
});

test("a page is not used again from its beginning while somebody writes behind what was sent", () => {
  const [one, other] = [new Socket(), new Socket()];
  one.slow = true;
  one.send(letters(0, 30_000));
  other.output.reserve(20_000);
  const { at } = other.output;
  one.drain();
  assert.is(other.output.at, at);
  other.send(letters(1, 20_000));
  other.assertIntact();
});

test("of a socket that does not tell when it has drained, no page is used again", () => {
  const socket = new Socket();
  socket.slow = true;
  socket.tells = false;
  for (let i = 0; i < 20; i += 1) socket.send(letters(i));
  socket.drain();
  for (let i = 0; i < 20; i += 1) socket.send(letters(i + 20));
  assert.is(socket.pages, 40);
  socket.assertIntact();
});

test("of more pages than are kept, those used last are", () => {
  const sockets = Array.from({ length: 100 }, () => new Socket());
  for (const socket of sockets) {
    socket.slow = true;
    socket.send(letters(0));
  }
  for (const socket of sockets) socket.drain();
  const next = new Socket();
  next.send(letters(1));
  assert.is(next.written[0]!.buffer, sockets[99]!.written[0]!.buffer);
});

test.run();

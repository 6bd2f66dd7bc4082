// Who is told of policies, and what: messages as they are sent.
import { decode, type Message, type Partially } from "../../api/codec.ts";
import { FRAME_HEAD } from "../../api/grpc-frame.ts";
import { encodeFrame } from "../grpc-server.ts";

/** Told of a policy, and of each that follows. An object: there are hundreds of thousands of them. */
export interface Listener<Q> {
  /**
   * @param frame the policy's message as it is sent, the same for all who are told of a change; undefined: there is none
   * @param asked what it is about
   */
  update(frame: Buffer | undefined, asked: Q): void;
}

/** What a listener follows, until it leaves. */
export interface Followed<Q> {
  leave(listener: Listener<Q>): void;
}

/**
 * A message as it is sent, one character for each byte: smaller by far than the message as objects, and equal ones are told
 * by it. Many small Buffers would each keep a larger piece of memory.
 */
export type MessageText = string;

export const textOf = <R>(type: Message<R>, message: Partially<R> | undefined): MessageText | undefined =>
  message && encodeFrame(type, message).toString("latin1");

export const frameOf = (text: MessageText | undefined): Buffer | undefined =>
  text === undefined ? undefined : Buffer.from(text, "latin1");

/** The message that a frame holds. */
export const messageIn = <R>(type: Message<R>, frame: Buffer): R => decode(type, frame.subarray(FRAME_HEAD));

// Messages of the proxy API: bytes are refused, or read as a message that survives being written and read again. The
// first byte chooses the message.
import * as assert from "node:assert/strict";
import { decode, encode, type Message, WireError } from "../../src/api/codec.ts";
import { DestinationProfile, GetDestination, Update } from "../../src/api/destination.ts";
import { CertifyRequest, CertifyResponse } from "../../src/api/identity.ts";
import { PortSpec, Server } from "../../src/api/inbound.ts";
import { OutboundPolicy, TrafficSpec } from "../../src/api/outbound.ts";
import { ObserveRequest, TapEvent } from "../../src/api/tap.ts";
import { Header as TransportHeader } from "../../src/api/transport-header.ts";

export const MESSAGES = [
  GetDestination,
  Update,
  DestinationProfile,
  CertifyRequest,
  CertifyResponse,
  PortSpec,
  Server,
  TrafficSpec,
  OutboundPolicy,
  ObserveRequest,
  TapEvent,
  TransportHeader,
] as readonly Message<unknown>[];

export function fuzz(bytes: Buffer): string {
  const type = MESSAGES[(bytes[0] ?? 0) % MESSAGES.length]!;
  let value: unknown;
  try {
    value = decode(type, bytes.subarray(1));
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    return error.message.replace(/\d+/g, "n");
  }
  const written = encode(type, value as never);
  assert.deepEqual(decode(type, written), value);
  return `${type.name} ${Math.min(Math.ceil(written.length / 16), 8)}`;
}

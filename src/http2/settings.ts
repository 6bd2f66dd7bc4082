// SETTINGS (RFC 9113 §6.5): what a peer has asked for, and what we ask.
import {
  ConnectionError,
  DEFAULT_WINDOW,
  ERROR,
  MAX_FRAME,
  MAX_WINDOW,
  MIN_FRAME,
  OUR_FRAME,
  readUInt32,
} from "./frame.ts";

export const SETTING = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
  /** RFC 8441 */
  ENABLE_CONNECT_PROTOCOL: 8,
} as const;

/** Settings in one frame; there are nine known ones. */
const MAX_SETTINGS = 128;
/** Of how many streams a peer is believed to be capable before it has said so. */
const ASSUMED_STREAMS = 100;

/** What the peer asks of us, from its defaults on. */
export class PeerSettings {
  /** Bytes of dynamic table. */
  tableSize = 4_096;
  maxStreams = ASSUMED_STREAMS;
  /** Bytes that we may send at first on each stream. */
  streamWindow = DEFAULT_WINDOW;
  /** Payload of the frames that we send, at most. */
  frameSize = MIN_FRAME;
  /** Bytes of a header list (§6.5.2), by its advice. */
  listSize = Number.POSITIVE_INFINITY;
  /** It takes CONNECT with `:protocol` (RFC 8441). */
  extendedConnect = false;
  readonly #isServer: boolean;
  #came = false;

  /** @param isServer the peer is one */
  constructor(isServer: boolean) {
    this.#isServer = isServer;
  }

  /** Reads the payload of a frame; of a setting that is in it several times the last counts. @throws ConnectionError */
  read(data: Buffer, from: number, to: number): void {
    if (to - from > MAX_SETTINGS * 6) throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "too many settings");
    // Who names no bound has none (§6.5.2).
    if (!this.#came) this.maxStreams = Number.POSITIVE_INFINITY;
    this.#came = true;
    for (let at = from; at < to; at += 6)
      this.#set((data[at]! << 8) | data[at + 1]!, readUInt32(data, at + 2));
  }

  #set(name: number, value: number): void {
    switch (name) {
      case SETTING.HEADER_TABLE_SIZE:
        this.tableSize = value;
        break;
      case SETTING.ENABLE_PUSH:
        if (value > 1 || (value === 1 && this.#isServer)) throw refused("ENABLE_PUSH", value);
        break;
      case SETTING.MAX_CONCURRENT_STREAMS:
        this.maxStreams = value;
        break;
      case SETTING.INITIAL_WINDOW_SIZE:
        if (value > MAX_WINDOW)
          throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "initial window too large");
        this.streamWindow = value;
        break;
      case SETTING.MAX_FRAME_SIZE:
        if (value < MIN_FRAME || value > MAX_FRAME) throw refused("MAX_FRAME_SIZE", value);
        this.frameSize = Math.min(value, OUR_FRAME);
        break;
      case SETTING.MAX_HEADER_LIST_SIZE:
        this.listSize = value;
        break;
      case SETTING.ENABLE_CONNECT_PROTOCOL:
        // Once given it cannot be taken back (RFC 8441 §3).
        if (value > 1 || (value === 0 && this.extendedConnect))
          throw refused("ENABLE_CONNECT_PROTOCOL", value);
        this.extendedConnect = value === 1;
        break;
      default:
    }
  }
}

const refused = (name: string, value: number): ConnectionError =>
  new ConnectionError(ERROR.PROTOCOL_ERROR, `${name} of ${value}`);

/** Writes settings as a frame's payload at `at`, where there is room for six bytes each. */
export function writeSettings(
  out: Buffer,
  at: number,
  settings: readonly (readonly [id: number, value: number])[],
): void {
  settings.forEach(([id, value], index) => {
    out.writeUInt16BE(id, at + index * 6);
    out.writeUInt32BE(value, at + index * 6 + 2);
  });
}

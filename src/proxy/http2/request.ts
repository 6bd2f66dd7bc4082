// The head of a request that came over HTTP/2, as the rest of the proxy sees it. A peer's proxy may have carried an
// HTTP/1 request in it; then it says so in `l5d-orig-proto` (reference/data-planes.md §1.6).
import type { Field, RequestHead } from "../http/message.ts";
import { ORIG_PROTO } from "./message.ts";

export class Http2Request implements RequestHead {
  method = "";
  scheme = "http";
  authority = "";
  path = "";
  contentLength = -1;
  /** What it was before it was carried: 1, or 2 when it was not. */
  version: 1 | 2 = 2;
  minor = 1;
  absoluteForm = false;
  protocol: string | undefined;
  grpc = false;
  readonly #all: readonly Field[];
  #fields: readonly Field[] | undefined;

  /** @param all with pseudo-headers, as http2/fields.ts has let pass */
  constructor(all: readonly Field[]) {
    this.#all = all;
    let host = "";
    for (const [name, value] of all) {
      // The length of the name tells nearly all fields apart from those that matter.
      switch (name.length) {
        case 4:
          if (name === "host") host = value;
          break;
        case 5:
          if (name === ":path") this.path = value;
          break;
        case 7:
          if (name === ":method") this.method = value;
          else if (name === ":scheme") this.scheme = value;
          break;
        case 9:
          if (name === ":protocol") this.protocol = value;
          break;
        case 10:
          if (name === ":authority") this.authority = value;
          break;
        case 12:
          if (name === "content-type") this.grpc = value.startsWith("application/grpc");
          break;
        case 14:
          if (name === "content-length") this.contentLength = Number(value);
          else if (name === ORIG_PROTO) this.#carried(value);
          break;
      }
    }
    if (this.authority === "") this.authority = host;
  }

  #carried(value: string): void {
    if (!value.startsWith("HTTP/1.")) return;
    this.version = 1;
    this.minor = value[7] === "0" ? 0 : 1;
    this.absoluteForm = value.includes("absolute-form");
  }

  get(name: string): string | undefined {
    let found: string | undefined;
    for (const [known, value] of this.#all) {
      if (known === name) found = found === undefined ? value : `${found}, ${value}`;
    }
    return found;
  }

  fields(): readonly Field[] {
    this.#fields ??= this.#all.filter(([name]) => {
      const first = name.charCodeAt(0);
      // What the mesh tells itself is never taken from a caller; the authority has a place of its own.
      return first !== 0x3a && !(first === 0x6c && name.startsWith("l5d-")) && name !== "host";
    });
    return this.#fields;
  }
}

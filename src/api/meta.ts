// io.linkerd.proxy.meta
import { embed, member, message, string, uint32 } from "./codec.ts";

export const Resource = message("io.linkerd.proxy.meta.Resource", {
  group: string(1),
  kind: string(2),
  name: string(3),
  namespace: string(4),
  section: string(5),
  port: uint32(6),
});

/** A resource, or the name of a default (`default`). */
export const Metadata = message("io.linkerd.proxy.meta.Metadata", {
  default: member(string(1)),
  resource: embed(2, () => Resource),
});

// io.linkerd.proxy.net
import { embed, fixed32, fixed64, member, message, uint32 } from "./codec.ts";

export const IPv6 = message("io.linkerd.proxy.net.IPv6", { first: fixed64(1), last: fixed64(2) });

export const IPAddress = message("io.linkerd.proxy.net.IPAddress", {
  ipv4: member(fixed32(1)),
  ipv6: embed(2, () => IPv6),
});

export const IPNetwork = message("io.linkerd.proxy.net.IPNetwork", {
  ip: embed(1, () => IPAddress),
  prefixLen: uint32(2),
});

export const TcpAddress = message("io.linkerd.proxy.net.TcpAddress", {
  ip: embed(1, () => IPAddress),
  port: uint32(2),
});

// io.linkerd.proxy.tls_route
import { embed, member, message, repeated, string } from "./codec.ts";

export const SniMatchSuffix = message("io.linkerd.proxy.tls_route.SniMatch.Suffix", {
  reverseLabels: repeated(string(1)),
});

export const SniMatch = message("io.linkerd.proxy.tls_route.SniMatch", {
  exact: member(string(1)),
  suffix: embed(2, () => SniMatchSuffix),
});

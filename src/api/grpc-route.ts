// io.linkerd.proxy.grpc_route
import { embed, message, repeated, string, uint32 } from "./codec.ts";
import { HeaderMatch, Ratio } from "./http-route.ts";

export const GrpcRpcMatch = message("io.linkerd.proxy.grpc_route.GrpcRpcMatch", {
  service: string(1),
  method: string(2),
});

export const GrpcRouteMatch = message("io.linkerd.proxy.grpc_route.GrpcRouteMatch", {
  rpc: embed(1, () => GrpcRpcMatch),
  headers: repeated(embed(2, () => HeaderMatch)),
});

export const GrpcFailureInjector = message("io.linkerd.proxy.grpc_route.GrpcFailureInjector", {
  code: uint32(1),
  message: string(2),
  ratio: embed(3, () => Ratio),
});

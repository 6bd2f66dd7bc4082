// io.linkerd.proxy.opaque_route
import { message, string } from "./codec.ts";

export const Invalid = message("io.linkerd.proxy.opaque_route.Invalid", { message: string(1) });
export const Forbidden = message("io.linkerd.proxy.opaque_route.Forbidden", {});

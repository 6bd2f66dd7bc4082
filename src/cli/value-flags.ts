// Flags that set installation values: the general ones in Helm's style, and Linkerd's own names for the proxy's.
import { Flags } from "@oclif/core";

const helpGroup = "VALUES";

export const valueFlags = {
  set: Flags.string({
    helpGroup,
    helpValue: "NAME=VALUE",
    multiple: true,
    multipleNonGreedy: true,
    summary: "Set one value, e.g. proxy.logLevel=debug; may be repeated.",
  }),
  values: Flags.string({
    char: "f",
    helpGroup,
    helpValue: "FILE",
    multiple: true,
    multipleNonGreedy: true,
    summary: "YAML file with values; may be repeated, later ones win.",
  }),
};

const setting = (helpValue: string, summary: string) =>
  Flags.string({ helpGroup: "PROXY", helpValue, summary });

/** Each named as its annotation under `config.linkerd.io/`. */
export const proxyFlags = {
  "proxy-image": setting("IMAGE", "Image of the proxy, without its tag."),
  "proxy-version": setting("TAG", "Tag of the proxy's image."),
  "image-pull-policy": setting("POLICY", "Always, IfNotPresent or Never."),
  "inbound-port": setting("PORT", "The proxy's inbound port."),
  "outbound-port": setting("PORT", "The proxy's outbound port."),
  "control-port": setting("PORT", "The proxy's control (tap) port."),
  "admin-port": setting("PORT", "The proxy's admin port."),
  "skip-inbound-ports": setting("PORTS", "Inbound ports that bypass the proxy, e.g. 25,4000-4010."),
  "skip-outbound-ports": setting("PORTS", "Outbound ports that bypass the proxy."),
  "opaque-ports": setting("PORTS", "Ports that are carried as TCP without protocol detection."),
  "proxy-uid": setting("UID", "User that the proxy runs as."),
  "proxy-gid": setting("GID", "Group that the proxy runs as."),
  "proxy-log-level": setting("LEVEL", "Log level of the proxy."),
  "proxy-cpu-request": setting("QUANTITY", "CPU that the proxy requests."),
  "proxy-cpu-limit": setting("QUANTITY", "CPU that the proxy may use."),
  "proxy-memory-request": setting("QUANTITY", "Memory that the proxy requests."),
  "proxy-memory-limit": setting("QUANTITY", "Memory that the proxy may use."),
  "default-inbound-policy": setting("POLICY", "Who may connect where no policy says so."),
};

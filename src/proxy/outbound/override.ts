// Reads the header by which a request names its destination.

/** Of HTTP, where a name comes without a port. */
const DEFAULT_PORT = 80;
const NAME = /^[a-z0-9_]([-a-z0-9_]{0,62})(\.[a-z0-9_]([-a-z0-9_]{0,62}))*$/;
const MAX_NAME = 253;

/**
 * Name and port of `host[:port]`, or why it cannot be used.
 * @param suffixes ends of names that may be looked up, with or without the last dot; `.` allows all
 */
export function readOverride(
  text: string,
  suffixes: readonly string[],
): { readonly name: string; readonly port: number } | { readonly problem: string } {
  const match = /^([^:]+?)\.?(?::(\d{1,5}))?$/.exec(text.trim().toLowerCase());
  const name = match?.[1] ?? "";
  const port = match?.[2] === undefined ? DEFAULT_PORT : Number(match[2]);
  if (name.length > MAX_NAME || !NAME.test(name) || /^[\d.]+$/.test(name) || port < 1 || port > 65_535)
    return {
      problem: `l5d-dst-override: expected a name and port, got ${JSON.stringify(text.slice(0, 80))}`,
    };
  const allowed = suffixes.some((suffix) => {
    const end = suffix.replace(/^\.|\.$/g, "");
    return end === "" || name === end || name.endsWith(`.${end}`);
  });
  return allowed
    ? { name, port }
    : { problem: `l5d-dst-override: ${name} is none of ${suffixes.join(", ")}` };
}

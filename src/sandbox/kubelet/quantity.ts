// Resource quantities as Kubernetes writes them: 500m, 2, 64Mi, 1e3.

const SUFFIXES: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** The number that a quantity stands for. @throws RangeError that names what came. */
export function parseQuantity(text: string | number): number {
  const match = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$/.exec(
    String(text).trim(),
  );
  if (!match)
    throw new RangeError(`expected a quantity such as 500m, 2 or 64Mi, got ${JSON.stringify(text)}`);
  const factor = match[2] === undefined ? SUFFIXES[match[3] ?? ""]! : 10 ** Number(match[2]);
  return Number(match[1]) * factor;
}

/** `value` in units of `divisor`, rounded up, as resourceFieldRef gives it ("0" and "" mean 1). */
export function divideQuantity(value: string | number, divisor: string | undefined): number {
  const unit = parseQuantity(divisor ?? "1") || 1;
  return Math.ceil(parseQuantity(value) / unit - 1e-9);
}

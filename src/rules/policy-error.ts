// A policy that cannot be applied as it is meant: nothing is let through by it, rather than something else.

export class PolicyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "PolicyError";
  }
}

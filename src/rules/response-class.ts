// Whether a response counts as a success: HTTP by status (reference/data-planes.md §1.19).
import type { Trace } from "./trace.ts";

/** The labels' values as Linkerd writes them. */
export type Classification = "success" | "failure";

/** A status of 500 and above is a failure; so is a response that broke off. */
export function classifyResponse(status: number, complete: boolean, trace?: Trace): Classification {
  if (!complete) {
    trace?.add("response ended", true, "it broke off before its end");
    return "failure";
  }
  const failure = status >= 500;
  trace?.add("status >= 500", failure, `the status is ${status}`);
  return failure ? "failure" : "success";
}

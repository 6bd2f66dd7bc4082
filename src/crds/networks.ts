// Networks with exceptions, as several kinds name them.
import { list, object, optional, parsed, ruled } from "../schema/index.ts";
import { cidrContains, parseCidr } from "../util/ip.ts";

const cidr = parsed({ expects: "a network such as 10.0.0.0/8 or an address" }, parseCidr);

export const network = ruled(
  object({ cidr, except: optional(list(cidr)) }),
  ({ cidr: whole, except = [] }, report) => {
    const outer = parseCidr(whole);
    except.forEach((part, index) => {
      const inner = parseCidr(part);
      const at = `except[${index}]`;
      if (cidrContains(inner, outer))
        report.problem(at, `expected a part of ${whole}, got ${part}, which leaves nothing of it`);
      else if (!cidrContains(outer, inner)) report.problem(at, `expected a part of ${whole}, got ${part}`);
    });
  },
);

export const networks = list(network, { minItems: 1 });

// One request to store something of the mesh's: refused with what is wrong, admitted with what is strange.
import { isDeepStrictEqual } from "node:util";
import { reviewAnnotations } from "../../inject/index.ts";
import type { Logger } from "../../log/logger.ts";
import type { Registry } from "../../metrics/registry.ts";
import { kindOfObject, reviewObject } from "../../rules/admission.ts";
import { type Problem, problemText } from "../../schema/index.ts";
import { type AdmissionRequest, type AdmissionResponse, warned } from "../admission-review.ts";
import type { Review } from "../webhook-server.ts";

export interface ValidatorOptions {
  readonly registry: Registry;
  readonly log: Logger;
}

/** At most so many problems are told at once: the rest comes when these are mended. */
const MAX_PROBLEMS = 10;
/** Of each problem, characters. */
const MAX_TEXT = 512;

export function createValidator({ registry, log }: ValidatorOptions): Review {
  const requests = registry.counter(
    "policy_validator_admission_requests_total",
    "Objects that the webhook was asked about, with its answer.",
  );
  const warnings = registry.counter(
    "policy_validator_admission_warnings_total",
    "Warnings that the webhook gave with its answers.",
  );
  return async (request) => {
    const { problems, warnings: strange } = judge(request);
    const kind = kindLabel(request);
    const response = answer(request, problems, strange);
    requests.labels({ kind, operation: request.operation ?? "", allowed: String(response.allowed) }).inc();
    if (strange.length > 0) warnings.labels({ kind }).inc(strange.length);
    if (!response.allowed) {
      const subject = `${request.namespace ?? ""}/${request.name ?? request.object?.metadata?.name ?? ""}`;
      log.info("refused", { kind, subject, problem: problems[0] && problemText(problems[0]) });
    }
    return response;
  };
}

/** The kind as a label: what the rules of the webhook do not name must not make series. */
function kindLabel({ kind, object }: AdmissionRequest): string {
  if (kindOfObject(object)) return `${kind?.kind}.${kind?.group}`;
  return kind?.group === "" || kind?.group === undefined ? (kind?.kind ?? "") : "other";
}

interface Judgement {
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
}

function judge({ operation, object, oldObject }: AdmissionRequest): Judgement {
  if (!object || (operation !== "CREATE" && operation !== "UPDATE")) return { problems: [], warnings: [] };
  const { problems, warnings } = reviewObject(object);
  const refused = new Set(problems.map(({ path }) => path));
  const all = [...warnings, ...reviewAnnotations(object).filter(({ path }) => !refused.has(path))];
  // What was stored before a rule was made must remain deletable and relabelled: only what changes is judged.
  const old = operation === "UPDATE" && oldObject !== undefined;
  const leaving =
    (object.metadata as { deletionTimestamp?: string } | undefined)?.deletionTimestamp !== undefined;
  if (old && (leaving || sameContent(object, oldObject)))
    return { problems: [], warnings: leaving ? [] : [...problems, ...all] };
  return { problems, warnings: all };
}

type Content = NonNullable<AdmissionRequest["object"]>;

const sameContent = (object: Content, old: Content): boolean =>
  object.apiVersion === old.apiVersion &&
  isDeepStrictEqual(object.spec, old.spec) &&
  isDeepStrictEqual(object.metadata?.annotations, old.metadata?.annotations);

function answer(
  { uid }: AdmissionRequest,
  problems: readonly Problem[],
  strange: readonly Problem[],
): AdmissionResponse {
  const warnings = warned(strange.map(problemText));
  if (problems.length === 0) return { uid, allowed: true, ...warnings };
  const texts = problems.slice(0, MAX_PROBLEMS).map((problem) => problemText(problem).slice(0, MAX_TEXT));
  const more = problems.length > MAX_PROBLEMS ? [`and ${problems.length - MAX_PROBLEMS} more`] : [];
  return {
    uid,
    allowed: false,
    ...warnings,
    status: { code: 422, reason: "Invalid", message: [...texts, ...more].join("; ") },
  };
}

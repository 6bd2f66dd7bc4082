// `kubectl mesh explain`: what an error code of the mesh means and what to do about it.
import { Args } from "@oclif/core";
import { PlainCommand } from "../cli/base-command.ts";
import { usageError } from "../cli/errors.ts";
import { outputFlag } from "../cli/flags.ts";
import { renderAs, renderTable } from "../cli/output.ts";
import { EXPLAINED, type ExplainedPassport, findPassport } from "../rules/passport-help.ts";
import { nearest } from "../util/nearest.ts";

export default class Explain extends PlainCommand<typeof Explain> {
  static override summary = "Explain an error that the mesh made, offline.";
  static override description =
    "The proxy names a code in its log, in the metrics and, for callers it trusts, in its answers. Without a code, all are listed.";
  static override examples = ["<%= config.bin %> explain MESH-402", "<%= config.bin %> explain"];
  static override args = { code: Args.string({ description: "Code such as MESH-402, or 402." }) };
  static override flags = { ...outputFlag(["table", "json", "yaml"]) };

  async run(): Promise<void> {
    const { code } = this.args;
    const all = EXPLAINED;
    if (code === undefined) {
      const columns = [
        { header: "CODE", value: (entry: ExplainedPassport) => entry.code },
        { header: "STATUS", value: (entry: ExplainedPassport) => entry.status || undefined },
        { header: "ERROR", value: (entry: ExplainedPassport) => entry.text },
      ];
      this.write(await renderAs(this.flags.output, all, () => renderTable(columns, all)));
      return;
    }
    const passport = findPassport(code);
    if (!passport) {
      const close = nearest(
        code.toUpperCase(),
        all.map((entry) => entry.code),
      );
      throw usageError(
        `there is no error code ${JSON.stringify(code)}`,
        ...(close === undefined ? [] : [`did you mean: ${close}`]),
        "all codes: kubectl mesh explain",
      );
    }
    this.write(await renderAs(this.flags.output, passport, () => this.text(passport)));
  }

  private text(passport: ExplainedPassport): string {
    const { strong } = this.style;
    const answer =
      passport.status === 0
        ? "the connection is closed"
        : `HTTP ${passport.status}, gRPC status ${passport.grpcStatus}, header l5d-proxy-error: ${passport.text}`;
    return [
      strong(`${passport.code}  ${passport.text}`),
      "",
      `What happened  ${passport.cause}`,
      `What to do     ${passport.remedy}`,
      `The caller got ${answer}`,
      `In the metrics error="${passport.metric}"`,
      "",
    ].join("\n");
  }
}

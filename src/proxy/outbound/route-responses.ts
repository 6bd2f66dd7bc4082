// Heads of responses that a route changes, or makes itself.
import { grpcFields } from "../http/answer.ts";
import type { LocalResponse } from "../http/exchange.ts";
import { editFields, type Field, type FieldEdit, fieldValue, type ResponseHead } from "../http/message.ts";

class FieldsHead implements ResponseHead {
  readonly status: number;
  readonly contentLength: number;
  readonly #fields: readonly Field[];

  constructor(status: number, contentLength: number, fields: readonly Field[]) {
    this.status = status;
    this.contentLength = contentLength;
    this.#fields = fields;
  }

  get(name: string): string | undefined {
    return fieldValue(this.#fields, name);
  }

  fields(): readonly Field[] {
    return this.#fields;
  }
}

/** A response with a route's changes. */
export function editedResponse(head: ResponseHead, edits: readonly FieldEdit[]): ResponseHead {
  if (edits.length === 0) return head;
  return new FieldsHead(head.status, head.contentLength, editFields(head.fields(), edits));
}

/** A filter's answer, without a body. @param grpc it answers a gRPC call */
export function localHead(
  { status, fields, grpcStatus, message }: LocalResponse,
  grpc: boolean,
): ResponseHead {
  if (grpc && grpcStatus !== undefined)
    return new FieldsHead(200, 0, [...grpcFields(grpcStatus, message ?? ""), ...fields]);
  return new FieldsHead(status, 0, [...fields, ["content-length", "0"]]);
}

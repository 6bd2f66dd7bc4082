// The room's door: how what users write is described, once.
export { anyMap, list, mapOf, nested, type ObjectSchema, object, schemaAt, settings } from "./containers.ts";
export {
  choice,
  decimal,
  flag,
  integer,
  intOrString,
  numberChoice,
  parsed,
  TEXT_FORMATS,
  text,
} from "./scalars.ts";
export {
  type Checked,
  check,
  described,
  Findings,
  type Infer,
  isMap,
  join,
  type OpenApi,
  optional,
  type Problem,
  problemText,
  type Report,
  ruled,
  type Schema,
  shown,
} from "./schema.ts";

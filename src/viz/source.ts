// Where the numbers come from: the mesh's own metrics API, or later a Prometheus. All answer alike.
import type { EdgesAnswer, EdgesQuery, StatAnswer, StatQuery } from "../api/stat.ts";

export interface MetricsSource {
  stat(query: StatQuery): Promise<StatAnswer>;
  edges(query: EdgesQuery): Promise<EdgesAnswer>;
  close(): void;
}

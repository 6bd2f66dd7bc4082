// The layout of a container's root: what is mounted where, and that nothing is written to the host.
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { RootFs, type RootOptions } from "../../../src/sandbox/kubelet/root-fs.ts";
import type { HostEntry } from "../../../src/sandbox/kubelet/root-plan.ts";
import { identityOf, isMeshImage } from "../../../src/sandbox/kubelet/security.ts";

const test = suite<{ directory: string }>("container root");
test.before.each((context) => {
  context.directory = mkdtempSync(join(tmpdir(), "mesh-root-"));
});
test.after.each((context) => rmSync(context.directory, { recursive: true, force: true }));

function make(directory: string, kind: "overlay" | "bind", more: Partial<RootOptions> = {}) {
  const entries: HostEntry[] = [
    { name: "usr", kind },
    { name: "etc", kind },
    { name: "var", kind },
    { name: "bin", kind: "link", target: "usr/bin" },
  ];
  const dev = join(directory, "dev");
  mkdirSync(dev, { recursive: true });
  const root = new RootFs({
    plan: { base: directory, entries, overlayOptions: "userxattr,", ownSysfs: true },
    directory: join(directory, "c 1"),
    readOnly: false,
    privileged: false,
    dev,
    mounts: [],
    files: {},
    directories: [],
    hidden: [],
    ...more,
  });
  return { root, lines: root.fstab().trim().split("\n"), at: (path: string) => join(root.root, path) };
}

function volume(directory: string, name: string): string {
  const path = join(directory, name);
  mkdirSync(path);
  return path;
}

test("host directories get a writable layer, fresh ones are the container's own", ({ directory }) => {
  const { lines, at } = make(directory, "overlay");
  const usr = lines.find((line) => line.includes("/usr overlay"));
  assert.match(usr!, /userxattr,lowerdir=\/usr,upperdir=.*c\\0401\/upper\/usr,workdir=/);
  assert.is(readlinkSync(at("bin")), "usr/bin");
  assert.is(lstatSync(at("tmp")).mode & 0o7777, 0o1777);
  assert.ok(lines.some((line) => / \S*\/proc proc /.test(line)));
  assert.ok(lines.some((line) => line.startsWith("/proc/sys ") && line.includes("bind,ro")));
});

test("a read-only root makes every layer read-only, not the volumes", ({ directory }) => {
  const source = volume(directory, "v");
  const { lines } = make(directory, "overlay", {
    readOnly: true,
    mounts: [{ source, target: "/data", readOnly: false }],
  });
  for (const line of lines.filter((each) => each.includes(" overlay "))) assert.match(line, /,ro 0 0$/);
  assert.match(lines[0]!, / none bind,ro 0 0$/);
  assert.match(lines.at(-1)!, /\/data none bind 0 0$/);
});

test("mount points are made in the layer, under the host's symbolic links", ({ directory }) => {
  const source = volume(directory, "v");
  const { lines, at, root } = make(directory, "overlay", {
    mounts: [
      { source, target: "/etc/deep/er/config", readOnly: true },
      { source, target: "/bin/../new", readOnly: true },
    ],
  });
  assert.ok(existsSync(join(root.root, "../upper/etc/deep/er/config")));
  assert.not(existsSync("/etc/deep"));
  assert.ok(existsSync(at("usr/new")) || existsSync(join(root.root, "../upper/usr/new")));
  assert.ok(lines.some((line) => line.includes("/etc/deep/er/config none bind,ro")));
});

test("a volume inside a volume gets its mount point in the outer one", ({ directory }) => {
  const [outer, inner] = [volume(directory, "outer"), volume(directory, "inner")];
  const { lines } = make(directory, "overlay", {
    mounts: [
      { source: inner, target: "/data/in", readOnly: false },
      { source: outer, target: "/data", readOnly: false },
    ],
  });
  assert.ok(existsSync(join(outer, "in")));
  assert.match(lines.at(-1)!, /\/data\/in none bind 0 0$/, "after the one it is in");
});

test("own files replace the host's", ({ directory }) => {
  const { root } = make(directory, "overlay", { files: { "/etc/hosts": "mine\n" } });
  assert.is(readFileSync(join(root.root, "../upper/etc/hosts"), "utf8"), "mine\n");
});

test("without overlays a directory with new entries links to everything the host has there", ({
  directory,
}) => {
  const source = volume(directory, "v");
  const before = readFileSync("/etc/hosts", "utf8");
  const { at, lines } = make(directory, "bind", {
    files: { "/etc/hosts": "mine\n" },
    mounts: [{ source, target: "/etc/fresh/config", readOnly: true }],
  });
  assert.is(readlinkSync(at("etc/passwd")), "/.sandbox/host/etc/passwd");
  assert.is(readFileSync(at("etc/hosts"), "utf8"), "mine\n");
  assert.ok(existsSync(at("etc/fresh/config")));
  assert.is(readFileSync("/etc/hosts", "utf8"), before);
  assert.not(existsSync("/etc/fresh"));
  assert.ok(
    lines.some((line) => line.startsWith("/etc ") && line.includes("/.sandbox/host/etc none rbind,ro")),
  );
  assert.ok(lines.some((line) => line.startsWith("/usr ") && line.includes("/usr none rbind,ro")));
});

test("what must not be seen is covered", ({ directory }) => {
  for (const kind of ["overlay", "bind"] as const) {
    const { lines } = make(join(directory, kind), kind, { hidden: ["/var/lib/sandbox"] });
    assert.ok(
      lines.some((line) => /^tmpfs \S*\/var\/lib\/sandbox tmpfs ro/.test(line)),
      kind,
    );
  }
});

test("a file can be a volume's mount", ({ directory }) => {
  const source = join(directory, "file");
  writeFileSync(source, "x");
  const { root } = make(directory, "overlay", {
    mounts: [{ source, target: "/etc/app.conf", readOnly: true }],
  });
  assert.ok(lstatSync(join(root.root, "../upper/etc/app.conf")).isFile());
});

test("users and capabilities follow the security context", () => {
  const root = identityOf({}, { name: "c", image: "nginx" });
  assert.is(root.uid, 0);
  assert.ok(root.capabilities.includes("chown") && !root.capabilities.includes("net_admin"));
  const init = identityOf(
    { securityContext: { runAsUser: 1, fsGroup: 7, supplementalGroups: [5] } },
    {
      name: "c",
      image: "x",
      securityContext: {
        runAsUser: 65534,
        runAsGroup: 3,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "CAP_NET_RAW"] },
      },
    },
  );
  assert.equal(init, {
    uid: 65534,
    gid: 3,
    groups: [5, 7],
    capabilities: ["net_admin", "net_raw"],
    ambient: ["net_admin", "net_raw"],
    noNewPrivileges: true,
  });
  assert.is(identityOf({}, { name: "c", image: "ghcr.io/x/kubectl-mesh:1" }).uid, 2103);
  assert.is(identityOf({}, { name: "c", securityContext: { privileged: true } }).capabilities, "all");
  assert.throws(() => identityOf({ securityContext: { runAsNonRoot: true } }, { name: "c" }), /runAsNonRoot/);
});

test("our own image is known by its name", () => {
  for (const image of [
    "kubectl-mesh:1.2",
    "localhost:5000/kubectl-mesh:x",
    "a/b/kubectl-mesh@sha256:00",
    "kubectl-mesh",
  ])
    assert.ok(isMeshImage(image), image);
  for (const image of ["kubectl-mesh-demo:1", "not-kubectl-mesh:1", "nginx"])
    assert.not(isMeshImage(image), image);
});

test.run();

#!/usr/bin/env node
// Starts the executable that npm installed for this platform.
"use strict";
const { spawn } = require("node:child_process");
const { basename, dirname, resolve } = require("node:path");
const { isatty } = require("node:tty");
const { optionalDependencies } = require("./package.json");

// Windows on arm64 runs programs for x64.
const machine = process.platform === "win32" && process.arch === "arm64" ? "x64" : process.arch;
const platform = `@gem-setup/${process.platform}-${machine}`;
const fail = (status, message, hint) => {
    console.error(`error: ${message}\nhint: ${hint}`);
    process.exit(status);
};

// npx keeps what it has once installed, also without a part that could not be downloaded.
const again = () => {
    const kept = resolve(__dirname, "../..");
    if (basename(dirname(kept)) !== "_npx") return "install gem-setup again, without `--omit=optional` or `--no-optional`";
    const remove = process.platform === "win32" ? `delete the directory ${kept}` : `run \`rm -r '${kept}'\``;
    return `${remove}, then the same command again: npx could not download the package, and keeps the directory without it`;
};

let program;
try {
    program = require.resolve(`${platform}/bin/gem-setup${process.platform === "win32" ? ".exe" : ""}`);
} catch {
    if (!(platform in optionalDependencies)) {
        fail(4, `gem-setup is not published for ${process.platform} on ${process.arch}`, "build it from source");
    }
    fail(1, `the package ${platform} is missing`, again());
}

const args = process.argv.slice(2);
// Where Node can, the program takes this process's place.
if (process.execve && process.platform !== "win32") process.execve(program, [program, ...args], process.env);

const child = spawn(program, args, { stdio: "inherit" });
// A terminal sends Ctrl-C to the program too, and a second one means "at once".
const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));
process.on("SIGINT", () => hasTerminal || child.kill("SIGINT"));
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.on("error", (error) => fail(1, `cannot start ${program}: ${error.message}`, "install gem-setup again"));
child.on("exit", (status, signal) => {
    if (!signal) process.exit(status);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
});

#!/usr/bin/env node
// Starts the executable that npm installed for this platform.
"use strict";
const { spawn } = require("node:child_process");
const { isatty } = require("node:tty");
const { optionalDependencies } = require("./package.json");

const platform = `@gem-setup/${process.platform}-${process.arch}`;
const fail = (status, message, hint) => {
    console.error(`error: ${message}\nhint: ${hint}`);
    process.exit(status);
};

let program;
try {
    program = require.resolve(`${platform}/bin/gem-setup${process.platform === "win32" ? ".exe" : ""}`);
} catch {
    if (!(platform in optionalDependencies)) {
        fail(4, `gem-setup is not published for ${process.platform} on ${process.arch}`, "build it from source");
    }
    fail(1, `the package ${platform} is missing`, "install gem-setup again, without `--omit=optional` or `--no-optional`");
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

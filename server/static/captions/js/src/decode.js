/** From the text of a message to a message, checked against the protocol's schemas. */
import { SERVER_SHAPES } from "./messages.js";
/**
 * Reads a message of a server. Keys that this version does not know are left alone.
 *
 * @throws TypeError The text is not a message of the protocol; it says where.
 */
export function decodeServerMessage(text) {
    let value;
    try {
        value = JSON.parse(text);
    }
    catch {
        throw new TypeError("not JSON");
    }
    const type = isObject(value) ? value.type : undefined;
    if (typeof type !== "string" || !Object.hasOwn(SERVER_SHAPES, type)) {
        throw new TypeError(`no message of a server has the type ${JSON.stringify(type)}`);
    }
    const wrong = mismatch(value, SERVER_SHAPES[type], type);
    if (wrong !== undefined)
        throw new TypeError(wrong);
    return value;
}
/** What of a value is not as its shape wants it; `undefined` where nothing is. */
function mismatch(value, shape, path) {
    const kinds = typeof shape.type === "string" ? [shape.type] : (shape.type ?? []);
    if (kinds.length > 0 && !kinds.some((kind) => isOf(kind, value)))
        return `${path} is not ${kinds.join(" or ")}`;
    if ("const" in shape && value !== shape.const)
        return `${path} is not ${JSON.stringify(shape.const)}`;
    if (shape.enum && !shape.enum.includes(value))
        return `${path} is none of ${shape.enum.join(", ")}`;
    if (typeof value === "number") {
        if (shape.minimum !== undefined && value < shape.minimum)
            return `${path} is below ${shape.minimum}`;
        if (shape.maximum !== undefined && value > shape.maximum)
            return `${path} is above ${shape.maximum}`;
    }
    const inside = [];
    if (isObject(value)) {
        for (const name of shape.required ?? []) {
            if (!Object.hasOwn(value, name))
                return `${path}.${name} is missing`;
        }
        for (const [name, inner] of Object.entries(shape.properties ?? {})) {
            if (Object.hasOwn(value, name))
                inside.push([value[name], inner, `${path}.${name}`]);
        }
    }
    const { items } = shape;
    if (Array.isArray(value) && items)
        inside.push(...value.map((item, at) => [item, items, `${path}[${at}]`]));
    for (const [innerValue, innerShape, innerPath] of inside) {
        const wrong = mismatch(innerValue, innerShape, innerPath);
        if (wrong !== undefined)
            return wrong;
    }
    return undefined;
}
function isOf(kind, value) {
    if (kind === "integer")
        return Number.isInteger(value);
    if (kind === "array")
        return Array.isArray(value);
    if (kind === "null")
        return value === null;
    return kind === "object" ? isObject(value) : typeof value === kind;
}
function isObject(value) {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

// Making elements and measuring text.

const SVG = 'http://www.w3.org/2000/svg';

function append(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === 'style')
      for (const [property, of] of Object.entries(value)) element.style.setProperty(property, typeof of === 'number' ? `${of}px` : of);
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes an HTML element; numbers in `style` are pixels. */
export const html = (tag, attributes, ...children) => append(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => append(document.createElementNS(SVG, tag), attributes, children);

/** A colour, `of` of it opaque. */
export const alpha = (color, of) => `color-mix(in srgb, ${color} ${of * 100}%, transparent)`;

const context = document.createElement('canvas').getContext('2d');

export const fontFamily = () => getComputedStyle(document.body).fontFamily;

/** Fonts of the document are otherwise loaded when something is drawn with them, too late for what measures them. */
export const loadFonts = () =>
  Promise.all(['14px Inter', '500 14px Inter', '14px Given'].map((font) => document.fonts.load(font, 'a用')));

export function textWidth(text, size, weight = 400) {
  context.font = `${weight} ${size}px ${fontFamily()}`;
  return context.measureText(text).width;
}

/** The largest font size at which a text fits a box. */
export function fit(text, width, height, most, weight = 500) {
  return Math.max(Math.min((width / textWidth(text, 14, weight)) * 14, height / 1.21, most), 8);
}
